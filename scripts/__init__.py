"""Multi-organ segmentation by attention-guided supervised contrastive learning, as a MONAI bundle.

Folders are layers, from the bottom up: none imports one below it in this list::

    files/           written whole or not at all, kept apart from inputs, named and hashed
    runtime/         what every run shares: ranks, checkpoints, batch streams, precision, progress, plain errors
    dicom/           series in a folder, whether one is a volume, the numbers of its slices; structures to voxels
    dataset/         which scans there are, and what is wrong with them, before any work
    preprocessing/   scans -> arrays on one working grid, and labels back to the scan's own grid
    losses/          supervised contrast; DiceCE for partly contoured cases
    networks/        2D encoders, projection head, DeepLabV3+ decoder
    queries/         3D -> 2D: (slice, organ, window) with the organ's attention as a channel
    coarse/          3D network that finds the organs, cross-fitted; its maps are the attention
    drawing/         pictures of a volume and its organs; HTML pages that hold them
    inference/       the two-stage predictor, fusion, many scans in a row
    outputs/         label map, class scores, picture and DICOM of a segmented scan
    evaluation/      Dice, HD95, surface Dice, intervals, tables
    report/          volume and mean HU of every organ of one scan, with pictures, in one HTML file
    dataset_report/  a picture of a data set before training
    prepare/         data as they lie on a disk -> dataset.json
    export/          TorchScript, ONNX
    monai_label/     the bundle in the MONAI Label server, and fine-tuning
    segment/         for people who know no MONAI: the inference workflow as a command and as a call in Python

Nothing runs on import; the workflows are put together in ``configs/``.
"""
