//! The text of a case: what is printed parses back, what is garbage is refused in words.

use proptest::prelude::*;
use tilewise_bench::case::{Case, CaseError, Op, Operand, Problem, Statistics};
use tilewise_bench::check;
use tilewise_bench::suites;
use tilewise_kernels::{
    Activation, Adam, AvgPool2dParams, Axis, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    ConvTranspose2dShape, CropShape, LinearShape, MaxPool2dParams, PadShape, Padding, PoolShape, Sgd, Shape4,
    SoftmaxShape, UpsampleMode, UpsampleShape,
};

use crate::strategies::{cases, config, extents};

fn functions() -> impl Strategy<Value = Activation> {
    prop_oneof![
        prop::sample::select(&Activation::ALL[..]),
        any::<f32>()
            .prop_filter_map("no number", |v| v.is_finite().then_some(Activation::LeakyRelu { slope: v })),
        any::<f32>().prop_filter_map("no number", |v| v.is_finite().then_some(Activation::Elu { alpha: v })),
    ]
}

/// Every operator, with parameters of every kind.
fn problems() -> impl Strategy<Value = Problem> {
    let window = (prop::array::uniform4(1..5usize), prop::array::uniform4(0..4usize), 1..4usize);
    (extents(6, 30), window, functions(), any::<(bool, bool, f32)>(), 0..23usize).prop_map(
        |(x, ([kh, kw, sh, sw], [top, bottom, left, right], o), activation, (flag, other, real), which)| {
            let real = if real.is_finite() { real } else { 0.5 };
            let padding =
                if flag { Padding { top, bottom, left, right } } else { Padding::symmetric(top, left) };
            // Room for every window.
            let input = Shape4 { h: x.h + 12, w: x.w + 12, ..x };
            let (kernel, stride, dilation) = ([kh, kw], [sh, sw], [sw, sh]);
            let pooled = [top.min(kh / 2), left.min(kw / 2)];
            let statistics = match (flag, other) {
                (true, _) => Statistics::Given,
                (_, true) => Statistics::Batch,
                _ => Statistics::Tracked { momentum: real },
            };
            match which {
                0 | 1 => {
                    let groups = if flag { input.c } else { 1 };
                    let params =
                        Conv2dParams { stride, padding, dilation, groups, ..Conv2dParams::default() };
                    let shape = Conv2dShape::new(input, o * groups, kernel, params).unwrap();
                    Problem::Conv2d { shape, bias: other, activation }
                }
                2 => {
                    let output_padding = [sh.max(sw) - 1, 0];
                    let params =
                        ConvTranspose2dParams { stride, padding, output_padding, dilation, groups: 1 };
                    let shape = ConvTranspose2dShape::new(input, o, kernel, params).unwrap();
                    Problem::ConvTranspose2d { shape, bias: other, activation }
                }
                3 => {
                    let params = MaxPool2dParams { kernel, stride, padding: pooled, ceil_mode: flag };
                    Problem::MaxPool2d { shape: PoolShape::max(input, params).unwrap(), params }
                }
                4 => {
                    let params = AvgPool2dParams {
                        kernel,
                        stride,
                        padding: pooled,
                        ceil_mode: flag,
                        count_include_pad: other,
                    };
                    Problem::AvgPool2d { shape: PoolShape::avg(input, params).unwrap(), params }
                }
                5 => Problem::GlobalAvgPool { input },
                6 => Problem::Activation { input, activation },
                7 => Problem::Softmax(SoftmaxShape::new(input, Axis::ALL[top]).unwrap()),
                8 => Problem::Linear { shape: LinearShape::new(input, o).unwrap(), bias: flag, activation },
                9 => Problem::BatchNorm { input, eps: real.abs(), statistics },
                10 => {
                    let mode = UpsampleMode::Bilinear { align_corners: flag };
                    let mode = if other { UpsampleMode::Nearest } else { mode };
                    Problem::Upsample(UpsampleShape::new(input, [kh, kw], mode).unwrap())
                }
                11 => {
                    let channels = [kh, kw, sh].into_iter().take(o);
                    Problem::Concat { parts: channels.map(|c| Shape4 { c, ..input }).collect() }
                }
                12 => Problem::Add { input },
                13 => Problem::Pad { shape: PadShape::new(input, padding).unwrap(), value: real },
                14 => Problem::Crop(CropShape::new(input, padding).unwrap()),
                15 => Problem::CrossEntropy {
                    input,
                    weighted: flag,
                    label_smoothing: [0.0, 0.1, 1.0][top.min(2)],
                    ignore_index: other.then_some(o),
                },
                16 => Problem::BceWithLogits { input, weighted: flag },
                17 => Problem::Mse { input },
                18 => Problem::L1 { input },
                19 => Problem::Dice { input, smooth: real.abs() },
                20 => {
                    let momentum = if flag { 0.9 } else { 0.0 };
                    let sgd = Sgd { lr: real.abs(), momentum, weight_decay: 0.01, nesterov: flag && other };
                    Problem::Sgd { input, sgd }
                }
                21 => {
                    let beta1 = if flag { 0.5 } else { 0.9 };
                    let adam = Adam { lr: real.abs(), beta1, decoupled: other, ..Adam::default() };
                    Problem::Adam { input, adam, step: o as u64 }
                }
                _ => Problem::ClipNorm { input, max_norm: real.abs() },
            }
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_printed_parses_back(case in cases(problems())) {
        let text = case.to_string();
        prop_assert_eq!(&text.parse::<Case>().unwrap(), &case, "{}", text);
        prop_assert!(!text.contains(char::is_whitespace) && text.is_ascii(), "{}", text);
    }

    #[test]
    fn garbage_is_refused_in_words(text in "\\PC*", op in prop::sample::select(&Op::ALL[..])) {
        if let Err(error) = Case::parse(op, &text) {
            prop_assert!(error.to_string().contains("expected"), "{}", error);
        }
    }

    /// Nearly right: a valid text with one character replaced, or cut short.
    #[test]
    fn damaged_texts_never_panic(
        case in cases(problems()), at in any::<prop::sample::Index>(), ch in prop::sample::select(b"0179xnchwoksp_+:,.-eg ".as_slice())
    ) {
        let mut bytes = case.to_string().into_bytes();
        let at = at.index(bytes.len());
        let short = String::from_utf8(bytes[..at].to_vec()).unwrap();
        bytes[at] = ch;
        for text in [short, String::from_utf8(bytes).unwrap()] {
            if let Ok(case) = text.parse::<Case>() {
                prop_assert_eq!(&case.to_string().parse::<Case>().unwrap(), &case);
                // What parses can be checked: right, or refused by the kernels, but no panic.
                let elements = |list: Vec<Operand>| -> f64 {
                    list.iter().map(|o| o.shape.dims().iter().map(|&d| d as f64).product::<f64>()).sum()
                };
                if elements(case.problem.inputs()) + elements(case.problem.outputs()) < 20_000.0 {
                    let _ = check::verify(&case);
                }
            }
        }
    }
}

#[test]
fn the_operator_is_conv2d_unless_it_is_named() {
    let case: Case = "n1c3h224w224_o64k7s2p3".parse().unwrap();
    assert_eq!(case.to_string(), "n1c3h224w224_o64k7x7s2p3");
    let pool = Case::parse(Op::MaxPool2d, "n1c3h8w8_k2").unwrap();
    assert_eq!(pool, "max_pool2d:n1c3h8w8_k2x2".parse().unwrap());
}

#[test]
fn errors_name_the_field_what_was_expected_and_what_came() {
    let error = |text: &str| text.parse::<Case>().unwrap_err().to_string();
    assert_eq!(error("n1c3h8w8_k3x3"), "case: field o: expected a count, as in 3, got `nothing`");
    assert_eq!(
        error("n1c3h8w8_o4k3x3x3"),
        "case: field k: expected one count or two, as in 3 or 3x1, got `3x3x3`"
    );
    assert_eq!(
        error("n1c3h8w8_o4k3x3q2"),
        "case: field q: expected fields o, k, s, p, d, g, as in o64k7x7s2p3, got `q2`"
    );
    assert_eq!(
        error("n1c3h8w8_o4k3x3+relo"),
        "case: flag: expected nobias, an activation, ints, special or a seed, got `relo`"
    );
    assert_eq!(error("n1c3h2w8_o4k3x3"), "case: conv2d: padded input height: expected at least 3, got 2");
    assert_eq!(error("n1c3h8w8_o4k3x3s0"), "case: conv2d: stride height: expected at least 1, got 0");
    assert!(error("conv3d:n1c3h8w8").starts_with("operator: expected one of conv2d, conv_transpose2d, "));
    assert!(matches!("".parse::<Case>(), Err(CaseError::Syntax { .. })));
    assert!(error("n1c3,4h8w8_o4k3x3").contains("only concat takes several"));
    assert_eq!(
        error("cross_entropy:n2c0h1w1"),
        "case: cross_entropy: input: expected no extent of 0 but the batch, got 2x0x1x1"
    );
    let overflow = error("concat:n0c18446744073709551615,1h1w1");
    assert!(overflow.contains("does not fit the address space"), "{overflow}");
    assert!(error("n99999999999999999999c3h8w8_o4k3x3").contains("field n: expected a count"));
}

#[test]
fn every_operator_is_found_by_its_name() {
    for op in Op::ALL {
        assert_eq!(op.name().parse::<Op>().unwrap(), op);
    }
    for case in suites::check::cases(true) {
        assert_eq!(case.to_string().parse::<Case>().unwrap(), case);
    }
}
