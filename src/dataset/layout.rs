//! `dataset.json` in MSD and nnU-Net v2 form.
