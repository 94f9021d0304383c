//! The cases of `tilewise check`: data, each named for why it is there.

use crate::case::Case;

/// A case and why it is there.
pub type Named = (&'static str, &'static str);

/// Seconds: something of everything, and whatever has its own path through the code.
pub const QUICK: &[Named] = &[
    // conv2d: sizes that no tile, vector or panel divides.
    ("tail", "n1c5h9w37_o19k3x3p1"),
    ("stride_tail", "n1c6h11w39_o21k3x3s2p1"),
    ("one_less_than_a_vector", "n1c3h5w15_o15k3x3p1"),
    ("one_more_than_a_vector", "n1c3h5w17_o17k3x3p1+relu"),
    ("many_panels", "n1c33h7w13_o70k3x3p1"),
    ("deep", "n1c300h5w9_o24k3x3p1+nobias"),
    ("batch", "n3c8h6w7_o10k3x3p1+relu6"),
    // So many pixels, and so few weights, that threads share out the pixels; and the other way round.
    ("many_rows", "n1c3h97w101_o20k3x3p1+ints"),
    ("many_rows_stride", "n2c3h131w139_o17k5x4s2p2+relu"),
    ("many_images", "n150c2h9w10_o9k5x5p2"),
    ("many_pixels_1x1", "n3c9h53w61_o33k1x1+ints"),
    ("many_weights", "n1c200h5w6_o70k3x3p1+ints"),
    // Exact sums: a lost, doubled or misplaced term cannot hide below a tolerance.
    ("integers", "n2c7h10w21_o18k3x3p1+ints"),
    ("integers_stride", "n1c9h13w29_o33k5x5s2p2+relu+ints"),
    ("integers_deep", "n1c300h5w9_o24k3x3p1+ints"),
    ("integers_1x1", "n2c37h6w11_o35k1x1+ints"),
    // Degenerate planes and batches.
    ("plane_1x1", "n1c16h1w1_o16k1x1"),
    ("plane_1x1_padded", "n2c16h1w1_o9k3x3p1"),
    ("single_column", "n1c4h19w1_o8k3x1p1x0"),
    ("single_row", "n1c4h1w19_o8k1x3p0x1"),
    ("empty_batch", "n0c3h8w8_o4k3x3p1"),
    ("kernel_is_the_padded_input", "n1c5h4w5_o6k6x7p1"),
    ("stride_past_the_end", "n1c4h5w5_o4k3x3s9"),
    ("stride_over_the_kernel", "n1c4h17w17_o8k2x2s5"),
    ("output_1x1", "n2c32h7w7_o20k7x7"),
    // Parameters beyond the usual.
    ("dilation", "n1c8h15w16_o12k3x3p2d2"),
    ("dilation_uneven", "n1c8h15w16_o12k3x3s2x1p2x3d2x3"),
    ("asymmetric_padding", "n1c6h9w10_o8k4x4p1,2,0,3"),
    ("asymmetric_stride_and_kernel", "n1c6h19w20_o8k5x2s3x2"),
    ("padding_over_the_kernel", "n1c3h5w6_o8k3x3p4"),
    ("even_kernel_same", "n1c8h8w8_o8k2x2p0,1,0,1+ints"),
    ("groups", "n2c12h8w9_o20k3x3p1g4"),
    ("groups_of_one_output", "n1c12h8w9_o4k3x3p1g4+ints"),
    ("depthwise", "n1c19h12w21_o19k3x3p1g19+relu6"),
    ("depthwise_stride", "n2c8h13w17_o8k5x5s2p2g8+ints"),
    ("depthwise_multiplier", "n1c5h9w19_o15k3x3p1g5"),
    ("pointwise", "n2c40h7w9_o50k1x1+relu"),
    ("pointwise_stride", "n1c40h9w9_o50k1x1s2"),
    // NaN and infinities go where the arithmetic takes them.
    ("special_values", "n1c2h12w21_o5k3x3p1+special"),
    ("special_values_relu", "n1c1h12w21_o9k3x3p1+relu+special"),
    ("special_values_depthwise", "n1c4h9w20_o4k3x3p1g4+special"),
    // Fused functions, one each.
    ("fused_leaky_relu", "n1c8h9w10_o11k3x3p1+leaky_relu0.1"),
    ("fused_elu", "n1c8h9w10_o11k3x3p1+elu0.7"),
    ("fused_gelu", "n1c8h9w10_o11k3x3p1+gelu"),
    ("fused_silu", "n1c8h9w10_o11k3x3p1+silu"),
    ("fused_sigmoid", "n1c8h9w10_o11k3x3p1+sigmoid"),
    ("fused_tanh", "n1c8h9w10_o11k3x3p1+tanh"),
    // Layers of networks, narrowed.
    ("unet_in", "n1c1h32w32_o64k3x3p1+relu"),
    ("unet_enc1", "n1c64h20w20_o64k3x3p1+relu"),
    ("res_stem", "n1c3h45w45_o64k7x7s2p3+relu"),
    ("goog_5x5", "n1c32h14w14_o48k5x5p2+relu"),
    ("res5_3x3", "n2c64h7w7_o64k3x3p1+relu"),
    // Winograd's tiles of 5x5, and of the phases of a stride: tails of every side, several images, groups, NaN and infinities.
    ("tiles_5x5", "n3c17h13w18_o21k5x5p2+relu"),
    ("tiles_5x5_groups", "n1c34h9w11_o20k5x5p3,0,1,4g2"),
    ("tiles_5x5_special", "n1c16h11w12_o16k5x5p2+special"),
    ("phases_3x3", "n2c19h15w18_o24k3x3s2p1+relu"),
    ("phases_3x3_groups", "n1c40h17w13_o34k3x3s2p2,0,1,3g2"),
    ("phases_3x3_special", "n1c16h15w17_o16k3x3s2p1+special"),
    ("phases_4x4", "n2c18h14w17_o19k4x4s2p1"),
    ("phases_5x5", "n1c20h19w16_o18k5x5s2p2"),
    ("phases_7x7", "n2c5h23w26_o17k7x7s2p3"),
    ("phases_7x7_special", "n1c3h21w20_o9k7x7s2p3+special"),
    ("phases_narrower_than_a_kernel", "n1c16h2w9_o16k5x5s2p2"),
    ("conv_transpose_unet_up", "conv_transpose2d:n1c16h9w10_o8k2x2s2"),
    ("conv_transpose_overlap", "conv_transpose2d:n2c5h7w6_o9k3x3s2p1e1+relu"),
    ("conv_transpose_integers", "conv_transpose2d:n1c7h6w9_o19k4x4s2p1+ints"),
    ("conv_transpose_gaps", "conv_transpose2d:n1c4h5w5_o6k2x2s3e2+ints"),
    ("conv_transpose_dilation", "conv_transpose2d:n1c4h5w6_o6k3x2s2x1p1e1d2x3+ints"),
    ("conv_transpose_groups", "conv_transpose2d:n1c6h5w4_o9k3x3s2p1g3+ints"),
    ("conv_transpose_cropped", "conv_transpose2d:n1c3h4w5_o4k3x3s2p2,1,0,3"),
    ("conv_transpose_1x1_plane", "conv_transpose2d:n2c8h1w1_o4k4x4+nobias"),
    ("conv_transpose_empty", "conv_transpose2d:n0c3h4w4_o2k2x2s2"),
    ("conv_transpose_special", "conv_transpose2d:n1c1h5w5_o3k2x2s2+special"),
    ("linear_classifier", "linear:n5c8h4w4_o10"),
    ("linear_one_sample", "linear:n1c100h1w1_o37+relu"),
    ("linear_integers", "linear:n7c129h1w1_o65+ints"),
    ("linear_one_feature", "linear:n3c1h1w1_o1+sigmoid+nobias"),
    ("linear_empty", "linear:n0c10h1w1_o4"),
    ("linear_special", "linear:n9c5h1w1_o6+special"),
    ("max_pool_halves", "max_pool2d:n2c5h12w38_k2x2"),
    ("max_pool_overlap", "max_pool2d:n1c7h15w33_k3x3s2p1"),
    ("max_pool_ceil", "max_pool2d:n1c3h8w10_k3x3s2+ceil"),
    ("max_pool_uneven", "max_pool2d:n1c3h11w20_k2x5s3x1p1x2"),
    ("max_pool_odd_tail", "max_pool2d:n1c3h7w19_k2x2"),
    ("max_pool_same_size", "max_pool2d:n1c2h9w35_k3x3s1p1"),
    ("max_pool_special", "max_pool2d:n1c4h11w21_k3x3s2p1+special"),
    ("max_pool_whole_plane", "max_pool2d:n2c3h6w7_k6x7"),
    ("max_pool_empty", "max_pool2d:n0c3h4w4_k2x2"),
    ("avg_pool_halves", "avg_pool2d:n2c5h12w38_k2x2"),
    ("avg_pool_overlap", "avg_pool2d:n1c7h15w33_k3x3s2p1"),
    ("avg_pool_nopad", "avg_pool2d:n1c7h15w33_k3x3s2p1+nopad"),
    ("avg_pool_ceil", "avg_pool2d:n1c3h8w10_k3x3s2p1+ceil"),
    ("avg_pool_ceil_nopad", "avg_pool2d:n1c3h8w10_k3x4s2p1+ceil+nopad"),
    ("avg_pool_uneven", "avg_pool2d:n1c3h11w20_k2x5s3x1p1x2"),
    ("avg_pool_special", "avg_pool2d:n1c4h11w21_k3x3s2p1+special"),
    ("avg_pool_empty", "avg_pool2d:n0c3h4w4_k2x2"),
    ("global_avg_pool", "global_avg_pool:n3c10h7w9"),
    ("global_avg_pool_1x1", "global_avg_pool:n1c3h1w1"),
    ("global_avg_pool_large", "global_avg_pool:n1c2h65w63"),
    ("global_avg_pool_special", "global_avg_pool:n2c9h5w5+special"),
    ("global_avg_pool_empty", "global_avg_pool:n0c3h5w5"),
    ("identity", "identity:n1c3h5w7+special"),
    ("relu", "relu:n2c3h17w19"),
    ("relu_special", "relu:n1c1h5w7+special"),
    ("leaky_relu", "leaky_relu:n2c3h17w19_slope0.1"),
    ("leaky_relu_special", "leaky_relu:n1c1h5w7_slope0.01+special"),
    ("relu6", "relu6:n2c3h17w19"),
    ("relu6_special", "relu6:n1c1h5w7+special"),
    ("elu", "elu:n2c3h17w19_alpha1"),
    ("elu_special", "elu:n1c1h5w7_alpha0.5+special"),
    ("gelu", "gelu:n2c3h17w19"),
    ("gelu_special", "gelu:n1c1h5w7+special"),
    ("silu", "silu:n2c3h17w19"),
    ("silu_special", "silu:n1c1h5w7+special"),
    ("sigmoid", "sigmoid:n2c3h17w19"),
    ("sigmoid_special", "sigmoid:n1c1h5w7+special"),
    ("tanh", "tanh:n2c3h17w19"),
    ("tanh_special", "tanh:n1c1h5w7+special"),
    ("activation_one_element", "gelu:n1c1h1w1"),
    ("activation_empty", "relu:n0c1h5w7"),
    ("softmax_batch", "softmax:n5c3h4w7_axis0"),
    ("softmax_classes", "softmax:n2c19h5w6_axis1"),
    ("softmax_rows", "softmax:n2c3h11w5_axis2"),
    ("softmax_columns", "softmax:n2c3h4w37_axis3"),
    ("softmax_of_one", "softmax:n2c1h4w4_axis1"),
    ("softmax_special", "softmax:n4c9h3w3_axis1+special"),
    ("softmax_special_columns", "softmax:n4c3h3w18_axis3+special"),
    ("softmax_empty", "softmax:n0c4h2w2_axis1"),
    ("batch_norm", "batch_norm:n3c5h7w9_eps0.00001"),
    ("batch_norm_1x1", "batch_norm:n4c19h1w1_eps0.001"),
    ("batch_norm_train", "batch_norm:n3c5h7w9_eps0.00001+train"),
    ("batch_norm_tracked", "batch_norm:n2c5h11w13_eps0.00001momentum0.1+train"),
    ("batch_norm_two_values", "batch_norm:n2c4h1w1_eps0.00001momentum0.3+train"),
    ("batch_norm_special", "batch_norm:n1c3h5w5_eps0.00001+special"),
    ("batch_norm_infinite_mean", "batch_norm:n1c4h3w2_eps0.000001momentum0.42926922+train+special+seed7195"),
    ("batch_norm_empty", "batch_norm:n0c3h5w5_eps0.00001"),
    ("upsample_nearest_doubles", "upsample_nearest:n2c3h5w17_size10x34"),
    ("upsample_nearest_uneven", "upsample_nearest:n1c2h7w9_size10x5"),
    ("upsample_nearest_rounds", "upsample_nearest:n1c2h2w5_size82x165"),
    ("upsample_nearest_special", "upsample_nearest:n1c2h5w9_size10x18+special"),
    ("upsample_bilinear_doubles", "upsample_bilinear:n2c3h5w17_size10x34"),
    ("upsample_bilinear_uneven", "upsample_bilinear:n1c2h7w9_size10x5"),
    ("upsample_bilinear_corners", "upsample_bilinear:n1c2h5w9_size11x20+corners"),
    ("upsample_bilinear_one_pixel", "upsample_bilinear:n1c2h1w1_size3x4"),
    ("upsample_bilinear_to_one", "upsample_bilinear:n1c2h5w4_size1x1+corners"),
    ("upsample_bilinear_special", "upsample_bilinear:n1c2h5w9_size10x18+special"),
    ("upsample_empty", "upsample_bilinear:n0c2h5w9_size10x18"),
    ("concat_skip", "concat:n2c5,7h6w9"),
    ("concat_many", "concat:n1c1,2,3,4h3w5+special"),
    ("concat_one", "concat:n2c5h3w3"),
    ("concat_empty", "concat:n0c5,7h6w9"),
    ("add_residual", "add:n2c5h7w9"),
    ("add_special", "add:n1c2h7w9+special"),
    ("add_empty", "add:n0c5h7w9"),
    ("pad_uneven", "pad:n2c3h4w5_p1,2,0,3v0.5"),
    ("pad_nothing", "pad:n1c3h4w5_v0"),
    ("pad_special", "pad:n1c3h4w5_p1v-1+special"),
    ("crop_uneven", "crop:n2c3h6w9_p1,2,0,3"),
    ("crop_to_nothing", "crop:n2c3h6w9_p3x0"),
    ("cross_entropy_labels", "cross_entropy:n9c10h1w1"),
    ("cross_entropy_pixels", "cross_entropy:n2c5h6w7"),
    ("cross_entropy_one_class", "cross_entropy:n4c1h1w1"),
    ("cross_entropy_special", "cross_entropy:n4c5h1w1+special"),
    ("bce_with_logits_mask", "bce_with_logits:n2c1h9w11"),
    ("bce_with_logits_hard", "bce_with_logits:n2c1h9w11+ints"),
    ("bce_with_logits_special", "bce_with_logits:n1c1h3w3+special"),
    ("mse_image", "mse:n2c3h9w11"),
    ("mse_special", "mse:n1c1h3w3+special"),
    ("cross_entropy_weights", "cross_entropy:n2c5h6w7+weighted"),
    ("cross_entropy_smoothing", "cross_entropy:n9c21h1w1_smoothing0.1"),
    ("cross_entropy_ignored_class", "cross_entropy:n2c5h6w7_ignore2"),
    ("cross_entropy_void", "cross_entropy:n2c5h6w7_smoothing0.2ignore255+weighted"),
    ("cross_entropy_shared", "cross_entropy:n3c100h1w2_smoothing0.1ignore7+weighted"),
    ("cross_entropy_nothing_but_smoothing", "cross_entropy:n2c3h4w4_smoothing1"),
    ("cross_entropy_weights_special", "cross_entropy:n4c5h3w3_smoothing0.1ignore1+weighted+special"),
    ("bce_with_logits_weights", "bce_with_logits:n2c3h9w11+weighted"),
    ("bce_with_logits_labels", "bce_with_logits:n5c19h1w1+weighted+ints"),
    ("bce_with_logits_weights_special", "bce_with_logits:n2c2h3w3+weighted+special"),
    ("l1_image", "l1:n2c3h9w11"),
    ("l1_special", "l1:n1c1h3w3+special"),
    ("l1_empty", "l1:n0c3h9w11"),
    ("dice_mask", "dice:n2c1h9w11_smooth1"),
    ("dice_hard", "dice:n2c3h9w11_smooth0+ints"),
    ("dice_many_planes", "dice:n9c9h2w3_smooth0.5"),
    ("dice_special", "dice:n1c3h3w3_smooth1+special"),
    ("dice_empty", "dice:n0c3h3w3_smooth1"),
    ("sgd", "sgd:n1c1h1w1001_lr0.1"),
    ("sgd_decay", "sgd:n2c3h5w7_lr0.1decay0.01"),
    ("sgd_momentum", "sgd:n1c1h1w1001_lr0.1momentum0.9"),
    ("sgd_nesterov", "sgd:n2c3h5w7_lr0.1momentum0.9decay0.01+nesterov"),
    ("adam_first", "adam:n1c1h1w1001_lr0.001step1"),
    ("adam_decay", "adam:n2c3h5w7_lr0.001decay0.01step10"),
    ("adamw", "adam:n2c3h5w7_lr0.001decay0.01step1000+decoupled"),
    ("adam_other_betas", "adam:n1c1h3w9_lr0.1betas0.5,0.75eps0.001step3"),
    ("adam_empty", "adam:n0c3h5w7_lr0.001step1"),
    ("clip_norm", "clip_norm:n2c3h5w7_max1"),
    ("clip_norm_unneeded", "clip_norm:n1c1h1w1001_max1000"),
    ("clip_norm_empty", "clip_norm:n0c3h5w7_max1"),
];

/// Minutes, on top of [`QUICK`]: layers at full size, and long sums.
const LARGE: &[Named] = &[
    ("vgg3_2_quarter", "n1c256h28w28_o64k3x3p1+relu"),
    ("vgg5", "n1c512h14w14_o128k3x3p1+relu"),
    ("res_stem_full", "n1c3h224w224_o64k7x7s2p3+relu"),
    ("res2_1x1", "n1c256h56w56_o64k1x1+relu"),
    ("res3_s2", "n1c128h56w56_o64k3x3s2p1+relu"),
    ("res4_1x1", "n1c1024h14w14_o256k1x1+relu"),
    ("res5_3x3_full", "n1c512h7w7_o512k3x3p1+relu"),
    ("unet_in_full", "n1c1h256w256_o64k3x3p1+relu"),
    ("unet_skip", "n1c128h64w64_o64k3x3p1+relu"),
    ("unet_skips", "n2c128h64w64_o64k3x3p1"),
    ("mobilenet_dw", "n1c256h56w56_o256k3x3p1g256+relu6"),
    ("cifar_batch", "n16c3h32w32_o32k5x5p2+relu"),
    ("mnist_batch", "n16c32h14w14_o64k3x3p1+relu"),
    ("deep_integers", "n1c512h9w9_o70k3x3p1+ints"),
    ("wide_row", "n1c3h3w5000_o9k3x3p1"),
    ("tall_column", "n1c3h5000w3_o9k3x3p1"),
    ("conv_transpose_large", "conv_transpose2d:n1c128h32w32_o64k2x2s2+relu"),
    ("conv_transpose_large_overlap", "conv_transpose2d:n2c64h20w20_o32k4x4s2p1+relu"),
    ("linear_vgg", "linear:n2c512h7w7_o512+relu"),
    ("max_pool_large", "max_pool2d:n1c64h112w112_k3x3s2p1"),
    ("avg_pool_large", "avg_pool2d:n1c64h112w112_k3x3s2p1"),
    ("global_avg_pool_resnet", "global_avg_pool:n4c2048h7w7"),
    ("relu_large", "relu:n1c64h224w224"),
    ("gelu_dense", "gelu:n1c1h512w512"),
    ("silu_dense", "silu:n1c1h512w512"),
    ("sigmoid_dense", "sigmoid:n1c1h512w512"),
    ("tanh_dense", "tanh:n1c1h512w512"),
    ("elu_dense", "elu:n1c1h512w512_alpha1"),
    ("softmax_imagenet", "softmax:n8c1000h1w1_axis1"),
    ("softmax_segmentation", "softmax:n1c21h128w128_axis1"),
    ("batch_norm_large", "batch_norm:n4c64h32w32_eps0.00001momentum0.1+train"),
    ("upsample_large", "upsample_bilinear:n1c64h32w32_size64x64"),
    ("concat_large", "concat:n2c64,64h56w56"),
    ("add_large", "add:n1c256h56w56"),
    ("cross_entropy_segmentation", "cross_entropy:n2c21h64w64"),
    ("cross_entropy_imagenet", "cross_entropy:n64c1000h1w1_smoothing0.1"),
    ("dice_large", "dice:n2c1h256w256_smooth1"),
    ("bce_with_logits_large", "bce_with_logits:n2c3h128w128+weighted"),
    ("sgd_large", "sgd:n1c1h1w1000003_lr0.01momentum0.9"),
    ("adam_large", "adam:n1c1h1w1000003_lr0.001step7"),
    ("clip_norm_large", "clip_norm:n1c1h1w1000003_max1"),
];

/// The cases of the quick or the full suite. (All named ones parse: a test says so.)
pub fn cases(full: bool) -> Vec<Case> {
    let named = QUICK.iter().chain(if full { LARGE } else { &[] });
    let mut cases: Vec<Case> = named.filter_map(|(_, text)| text.parse().ok()).collect();
    if full {
        cases.extend(sweeps().iter().filter_map(|text| text.parse().ok()));
    }
    cases
}

/// Every remainder that a size can leave: widths and channels one by one, on integers, so that equality is asked for;
/// and every small kernel, stride, padding and dilation, as far as it fits.
fn sweeps() -> Vec<String> {
    let mut texts = Vec::new();
    for w in 1..=50 {
        texts.push(format!("n1c3h3w{w}_o5k3x3p1+ints+seed{w}"));
        texts.push(format!("n1c17h2w{w}_o33k1x1+ints+seed{w}"));
        texts.push(format!("n1c6h4w{w}_o6k3x3p1g6+ints+seed{w}"));
        texts.push(format!("conv_transpose2d:n1c3h2w{w}_o5k3x3s2p1+ints+seed{w}"));
        texts.push(format!("conv_transpose2d:n1c5h3w{w}_o{}k2x2s2+ints+seed{w}", 1 + w % 13));
        texts.push(format!("max_pool2d:n1c2h5w{}_k2x2+ceil+seed{w}", w + 1));
        texts.push(format!("avg_pool2d:n1c2h5w{w}_k3x3s2p1+seed{w}"));
        texts.push(format!("add:n1c1h1w{w}+seed{w}"));
        texts.push(format!("softmax:n2c3h1w{w}_axis3+seed{w}"));
    }
    for o in 1..=66 {
        texts.push(format!("n1c9h3w7_o{o}k3x3p1+ints+seed{o}"));
        texts.push(format!("n1c{o}h3w7_o9k3x3p1+ints+seed{o}"));
        texts.push(format!("n1c{o}h3w7_o20k1x1+ints+seed{o}"));
        texts.push(format!("linear:n3c{o}h1w1_o{}+ints+seed{o}", 67 - o));
    }
    for k in 1..=5 {
        for s in 1..=4 {
            for p in 0..=3 {
                for d in 1..=3 {
                    texts.push(format!("n1c5h14w19_o7k{k}s{s}p{p}d{d}+ints"));
                    texts.push(format!("n1c5h14w19_o5k{k}s{s}p{p}d{d}g5+ints"));
                    texts.push(format!("conv_transpose2d:n1c5h7w6_o7k{k}s{s}p{p}d{d}+ints"));
                }
                texts.push(format!("max_pool2d:n1c3h14w19_k{k}s{s}p{}+ceil", p.min(k / 2)));
                texts.push(format!("avg_pool2d:n1c3h14w19_k{k}s{s}p{}+ceil+nopad", p.min(k / 2)));
            }
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Op;
    use std::collections::HashSet;

    #[test]
    fn every_case_parses_back_and_every_name_is_used_once() {
        let (mut names, mut respelled) = (HashSet::new(), Vec::new());
        for (name, text) in QUICK.iter().chain(LARGE) {
            let case: Case = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(names.insert(name), "{name} twice");
            if case.to_string() != *text {
                respelled.push((name, case.to_string()));
            }
        }
        assert!(respelled.is_empty(), "{respelled:#?}");
    }

    #[test]
    fn the_quick_suite_has_every_operator() {
        let ops: HashSet<Op> = cases(false).iter().map(|c| c.problem.op()).collect();
        for op in Op::ALL {
            assert!(ops.contains(&op), "{op}");
        }
    }

    #[test]
    fn sweeps_lose_only_what_does_not_fit() {
        let refused: Vec<String> = sweeps().into_iter().filter(|t| t.parse::<Case>().is_err()).collect();
        // A transposed convolution whose padding crops all of its output; nothing else.
        assert!(
            refused.iter().all(|t| t.starts_with("conv_transpose2d") && t.contains("k1s1p3")),
            "{refused:?}"
        );
    }
}
