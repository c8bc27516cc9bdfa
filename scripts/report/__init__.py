"""The report on one scan: volume and mean HU of every organ, and pictures to check them by, in one HTML file."""
