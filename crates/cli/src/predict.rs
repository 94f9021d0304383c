//! `tilewise predict`: what a trained network says of images.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tilewise_bench::{files, gpu};
use tilewise_kernels::{Cpu, Tensor, Training};
use tilewise_model::data::read_image;
use tilewise_model::metrics::{argmax, mean_squared_error};
use tilewise_model::picture::Tile;
use tilewise_model::train::Run;
use tilewise_model::{Prediction, Predictor};

use crate::Outcome;
use crate::args::AdapterArg;
use crate::output::say;

#[derive(Args)]
pub struct PredictArgs {
    /// PNG or JPEG images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The folder of a training; the weights are those of its best epoch
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Where masks, overlays and reconstructions go [default: predictions/ in the folder of the training]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many classes are named for each image, the likeliest first
    #[arg(long, value_name = "N", default_value_t = 3)]
    top: usize,
    /// Above which probability a pixel belongs to the object sought
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    threshold: f32,
    /// Where the network runs
    #[arg(long, value_enum, default_value_t = Place::Cpu)]
    device: Place,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Write the answers as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Place {
    Cpu,
    Gpu,
}

/// What the network says of one image.
#[derive(Serialize)]
struct Answer {
    image: PathBuf,
    /// The likeliest classes with their probabilities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<(String, f32)>,
    /// Of a segmentation: the share of pixels that belong to the object sought. Of a reconstruction: the mean squared error.
    #[serde(skip_serializing_if = "Option::is_none")]
    area: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mse: Option<f64>,
    /// The pictures written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pictures: Vec<PathBuf>,
}

pub fn run(args: &PredictArgs) -> Outcome {
    let run = Run::open(&args.run)?;
    let answers = match args.device {
        Place::Cpu => {
            args.adapter.refuse()?;
            ask(Cpu::new()?, &run, args)?
        }
        Place::Gpu => ask(gpu::open(args.adapter.as_deref())?, &run, args)?,
    };
    if let Some(path) = &args.json {
        files::write_json(path, &answers)?;
    }
    Ok(true)
}

fn ask<B: Training>(
    device: B,
    run: &Run,
    args: &PredictArgs,
) -> Result<Vec<Answer>, Box<dyn std::error::Error>> {
    let mut predictor = Predictor::open(device, run)?;
    let mut answers: Vec<Answer> = Vec::new();
    for path in &args.images {
        let image = read_image(path, predictor.options())?;
        let prediction = predictor.predict(&image).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut answer =
            Answer { image: path.clone(), classes: vec![], area: None, mse: None, pictures: vec![] };
        let pictures = match &prediction {
            Prediction::Classes(probabilities) => {
                answer.classes = likeliest(probabilities.data(), predictor.classes(), args.top);
                let named = answer.classes.iter().map(|(name, p)| format!("{name} ({:.1} %)", 100.0 * p));
                say(format_args!("{}: {}", path.display(), named.collect::<Vec<_>>().join(", ")))?;
                vec![]
            }
            Prediction::Masks(masks) => {
                let above = masks.data().iter().filter(|p| **p > args.threshold).count();
                answer.area = Some(above as f64 / masks.data().len() as f64);
                vec![
                    ("mask", Tile::mask(masks.view(), 0, args.threshold)?),
                    ("overlay", Tile::overlay(image.view(), masks.view(), None, 0, args.threshold)?),
                ]
            }
            Prediction::Images(again) => {
                answer.mse = Some(mean_squared_error(image.data(), again.data())?);
                vec![
                    ("reconstruction", Tile::image(again.view(), 0)?),
                    ("error", Tile::difference(image.view(), again.view(), 0, largest(&image, again))?),
                ]
            }
        };
        let folder = args.out.clone().unwrap_or_else(|| run.folder().join("predictions"));
        for (what, tile) in pictures {
            fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            let picture = free(&folder, path, what, &answers);
            files::write(&picture, &tile.png()?)?;
            answer.pictures.push(picture);
        }
        if let (Some(value), [first, second]) = (answer.area.or(answer.mse), &answer.pictures[..]) {
            let value = match answer.area {
                Some(area) => format!("{:.1} % of the pixels", 100.0 * area),
                None => format!("mean squared error {value:.5}"),
            };
            say(format_args!("{}: {value}; {}, {}", path.display(), first.display(), second.display()))?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// Where the picture of an image goes: images of one name, from two folders, do not write over each other.
fn free(folder: &Path, image: &Path, what: &str, before: &[Answer]) -> PathBuf {
    let stem = image.file_stem().map_or("image".into(), |stem| stem.to_string_lossy());
    let name = |i: usize| match i {
        1 => folder.join(format!("{stem}-{what}.png")),
        _ => folder.join(format!("{stem}-{i}-{what}.png")),
    };
    let taken = |path: &PathBuf| before.iter().any(|answer| answer.pictures.contains(path));
    (1..).map(name).find(|path| !taken(path)).expect("fewer pictures than numbers")
}

/// The likeliest classes, with their probabilities.
fn likeliest(probabilities: &[f32], names: &[String], top: usize) -> Vec<(String, f32)> {
    let mut left = probabilities.to_vec();
    (0..top.min(left.len()))
        .map(|_| {
            let class = argmax(&left);
            left[class] = f32::NEG_INFINITY;
            (names.get(class).cloned().unwrap_or_else(|| class.to_string()), probabilities[class])
        })
        .collect()
}

/// The largest difference of two images; not 0, so that it can be divided by.
fn largest(a: &Tensor, b: &Tensor) -> f32 {
    let differences = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs());
    differences.fold(f32::MIN_POSITIVE, f32::max)
}
