"""What inference writes for each scan: label map, class scores, picture, DICOM-SEG, RTSTRUCT, or palette PNG."""
