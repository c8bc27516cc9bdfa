"""What inference writes for each scan: label map, class scores, picture, DICOM-SEG, the mask of a photograph."""
