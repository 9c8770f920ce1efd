//! nnU-Net's topology rules: from patch and spacing to stages, kernels and strides.
