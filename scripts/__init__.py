"""Multi-organ segmentation by attention-guided supervised contrastive learning, as a MONAI bundle.

The pipeline, folder by folder::

    phantom/         a synthetic abdomen, the embedded example data
    prepare/         data as they lie on a disk -> dataset.json
    dataset_report/  a picture of a data set before training
    dataset/         which scans there are, and what is wrong with them, before any work
    dicom/           series in a folder, whether one is a volume, label maps as DICOM-SEG
    preprocessing/   scans -> arrays on one working grid, and labels back to the scan's own grid
    coarse/          3D network that finds the organs, cross-fitted; its maps are the attention
    queries/         3D -> 2D: (slice, organ, window) with the organ's attention as a channel
    networks/        ResNet encoder, projection head, DeepLabV3+ decoder
    losses/          supervised contrast; DiceCE for partly contoured cases
    training/        what every stage shares: batch streams, checkpoints, progress, precision
    inference/       the two-stage predictor, fusion, many scans in a row
    evaluation/      Dice, HD95, surface Dice, intervals, tables, pictures
    report/          volume and mean HU of every organ of one scan, with pictures, in one HTML file
    study/           the arms of a plan trained and scored alike, and what their scores say
    segment/         the command line for people who know no MONAI; it runs the inference workflow
    export/          TorchScript, ONNX, weights of half the size
    release/         checks of the model zoo, zip, hub folder, addresses with checksums
    monai_label/     the bundle in the MONAI Label server: environment, start and stop, a check over REST

Nothing runs on import; the workflows are put together in ``configs/``.
"""
