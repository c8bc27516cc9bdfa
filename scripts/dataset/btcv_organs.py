"""The organ list that BTCV 2015 and the synthetic abdomen share."""

ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_veins",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
"""The 13 organs of BTCV 2015 in its order; the class index of an organ is its position + 1."""
