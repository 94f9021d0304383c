//! Convolutional networks and their data, on [`tilewise_kernels`].

pub mod data;
