//! Networks against each other: the same data, the same budget of epochs, batches and learning rate.

use std::time::Instant;

use tilewise_kernels::{Shape4, Tensor, Training};

use crate::data::Dataset;
use crate::detect::{Samples, Threshold, picked};
use crate::error::{Error, Result};
use crate::fit::{Fit, Goal, image_errors, infer_all};
use crate::metrics::{Binary, auroc, mean_squared_error};
use crate::picture::{Grid, Tile, segmentations};
use crate::session::Session;
use crate::summary::Summary;
use crate::zoo::{AutoEncoder, Network, UNet};

/// What the networks are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Which pixels belong to the object sought.
    Segment,
    /// To give back an image that they have not seen.
    Reconstruct,
    /// To give back badly what is not like that they were trained on.
    Anomaly,
}

impl Task {
    /// All of them.
    pub const ALL: [Task; 3] = [Task::Segment, Task::Reconstruct, Task::Anomaly];

    /// Its name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Task::Segment => "segment",
            Task::Reconstruct => "reconstruct",
            Task::Anomaly => "anomaly",
        }
    }

    /// The embedded data that suits it, as [`crate::data::open`] takes it.
    pub const fn usual_data(self) -> &'static str {
        match self {
            Task::Segment | Task::Reconstruct => "cells",
            Task::Anomaly => "digits",
        }
    }

    /// What a network is trained to make of an image.
    pub const fn goal(self) -> Goal {
        match self {
            Task::Segment => Goal::Mask,
            Task::Reconstruct | Task::Anomaly => Goal::Image,
        }
    }
}

/// The images that a comparison takes place on.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What is compared.
    pub task: Task,
    /// The images, of which [`Task::Anomaly`] has normal ones to train on; and which of those held out are abnormal.
    pub samples: Samples,
}

impl Field {
    /// Splits a data set; for [`Task::Anomaly`], this class is normal.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the data has no masks or classes where they are needed; as [`Dataset::split`].
    pub fn new(task: Task, data: &Dataset, normal: usize, holdout: usize) -> Result<Self> {
        let samples = match task {
            Task::Anomaly => Samples::of_class(data, normal, holdout)?,
            Task::Segment | Task::Reconstruct => {
                if task == Task::Segment {
                    data.masks()?;
                }
                let (train, held_out) = data.split(holdout)?;
                let abnormal = vec![false; held_out.len()];
                Samples { train, held_out, abnormal }
            }
        };
        Ok(Field { task, samples })
    }

    /// The AutoEncoder, the U-Net and the residual U-Net, for these images: to segment, the AutoEncoder is the U-Net without
    /// its skips; else it is [`AutoEncoder`], with so many numbers in the middle. U-Nets begin with `base` feature maps and
    /// go down `levels` times, or else as often as the images allow, at most 4 times.
    pub fn contenders(
        &self,
        base: usize,
        levels: Option<usize>,
        latent: usize,
    ) -> [(&'static str, Network); 3] {
        let data = &self.samples.train;
        let (in_channels, [h, w]) = (data.channels(), data.size());
        let size = h.min(w);
        let levels = levels.unwrap_or_else(|| (1..=4).rev().find(|levels| size >> levels >= 2).unwrap_or(1));
        let classes = if self.task == Task::Segment { 1 } else { in_channels };
        let unet = UNet { in_channels, size, classes, base, levels, ..UNet::default() };
        let autoencoder = match self.task {
            Task::Segment => Network::UNet(UNet { skips: false, ..unet.clone() }),
            _ => Network::AutoEncoder(AutoEncoder { in_channels, size, latent, ..AutoEncoder::default() }),
        };
        let residual = UNet { residual: true, ..unet.clone() };
        [
            ("AutoEncoder", autoencoder),
            ("U-Net", Network::UNet(unet)),
            ("residual U-Net", Network::UNet(residual)),
        ]
    }

    /// Trains a network and measures it on the images held out.
    ///
    /// # Errors
    /// As [`Fit::train`]; [`Error::Layer`] if the images do not fit the network.
    pub fn enter<B: Training>(
        &self,
        device: B,
        network: &Network,
        fit: &Fit,
        progress: &mut dyn FnMut(u64, f64),
    ) -> Result<Standing> {
        let Samples { train, held_out, .. } = &self.samples;
        let graph = network.graph()?;
        let image = Shape4 { n: 1, ..held_out.images().shape() };
        let summary = Summary::new(&graph, image)?;
        let weights = graph.init(fit.seed);
        let mut session = Session::new(device, graph, &weights)?;
        let began = Instant::now();
        let fit = Fit { goal: self.task.goal(), ..fit.clone() };
        fit.train(&mut session, train, progress)?;
        let train_seconds = began.elapsed().as_secs_f64();

        let outputs = infer_all(&mut session, held_out, fit.batch)?;
        let quality = self.quality(&mut session, &outputs, fit.batch)?;
        let mut times = [0.0; 5];
        for time in &mut times {
            let began = Instant::now();
            infer_all(&mut session, held_out, fit.batch)?;
            *time = began.elapsed().as_secs_f64();
        }
        times.sort_by(f64::total_cmp);
        let ms_per_image = times[times.len() / 2] * 1e3 / held_out.len() as f64;
        let (parameters, macs) = (summary.trained, summary.macs);
        Ok(Standing { quality, parameters, macs, ms_per_image, train_seconds, outputs })
    }

    fn quality<B: Training>(
        &self,
        session: &mut Session<B>,
        outputs: &Tensor,
        batch: usize,
    ) -> Result<Vec<(&'static str, f64)>> {
        let Samples { train, held_out, abnormal } = &self.samples;
        Ok(match self.task {
            Task::Segment => {
                // What has a probability above one half has a logit above 0.
                let counts = Binary::of(outputs.data(), held_out.masks()?.data(), 0.0)?;
                vec![("Dice", counts.dice()), ("IoU", counts.iou()), ("pixel accuracy", counts.accuracy())]
            }
            Task::Reconstruct => {
                let mse = mean_squared_error(outputs.data(), held_out.images().data())?;
                vec![("PSNR, dB", -10.0 * mse.log10()), ("MSE", mse)]
            }
            Task::Anomaly => {
                let losses = image_errors(held_out.images(), outputs)?;
                let training = image_errors(train.images(), &infer_all(session, train, batch)?)?;
                let threshold = Threshold::Deviations(1.0).of(&training)?;
                let mut counts = Binary::default();
                for (&loss, &abnormal) in losses.iter().zip(abnormal) {
                    counts.count(abnormal, f64::from(loss) > threshold);
                }
                vec![
                    ("AUROC", auroc(&losses, abnormal)?),
                    ("detected", counts.recall()),
                    ("false alarms", counts.false_alarms()),
                ]
            }
        })
    }

    /// Some images held out, at most `rows`, and what each network made of them.
    ///
    /// # Errors
    /// [`Error::Draw`]; [`Error::Invalid`] if the outputs are not those of the images held out.
    pub fn picture(&self, title: &str, standings: &[(&str, Standing)], rows: usize) -> Result<Grid> {
        let Samples { held_out, abnormal, .. } = &self.samples;
        let shown = self.shown(rows);
        let outputs: Vec<(&str, Tensor)> = standings
            .iter()
            .map(|(name, standing)| Ok((*name, picked(&standing.outputs, &shown)?)))
            .collect::<Result<_>>()?;
        let images = picked(held_out.images(), &shown)?;
        let views: Vec<_> = outputs.iter().map(|(name, y)| (*name, y.view())).collect();
        if self.task == Task::Segment {
            let masks = picked(held_out.masks()?, &shown)?;
            let captions: Vec<String> = shown.iter().map(|n| format!("held out {n}")).collect();
            return segmentations(title, images.view(), masks.view(), &views, 0.0, &captions);
        }
        let mut headings = vec!["input"];
        headings.extend(views.iter().flat_map(|(name, _)| [*name, "error"]));
        let mut grid = Grid::new(title, &headings);
        let largest = |y: &Tensor| {
            let differences = images.data().iter().zip(y.data()).map(|(a, b)| (a - b).abs());
            differences.fold(0.0, f32::max)
        };
        let most = outputs.iter().map(|(_, y)| largest(y)).fold(0.0, f32::max);
        for (row, &n) in shown.iter().enumerate() {
            let mut tiles = vec![Tile::image(images.view(), row)?];
            for (_, y) in &views {
                tiles.push(Tile::image(*y, row)?);
                tiles.push(Tile::difference(images.view(), *y, row, most)?);
            }
            let caption = match (self.task, abnormal[n]) {
                (Task::Anomaly, true) => "abnormal".to_owned(),
                (Task::Anomaly, false) => "normal".to_owned(),
                _ => format!("held out {n}"),
            };
            grid.row(caption, tiles)?;
        }
        Ok(grid)
    }

    /// The first images held out; for [`Task::Anomaly`], the first half of them normal.
    fn shown(&self, rows: usize) -> Vec<usize> {
        let abnormal = &self.samples.abnormal;
        let of_kind = |kind: bool, count: usize| {
            abnormal.iter().enumerate().filter(move |(_, is)| **is == kind).map(|(n, _)| n).take(count)
        };
        match self.task {
            Task::Anomaly => of_kind(false, rows.div_ceil(2)).chain(of_kind(true, rows / 2)).collect(),
            _ => of_kind(false, rows).collect(),
        }
    }
}

/// How a network did.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What is measured on the images held out, the most important first.
    pub quality: Vec<(&'static str, f64)>,
    /// Numbers that are learnt.
    pub parameters: usize,
    /// Multiply-accumulates of one image.
    pub macs: f64,
    /// Of inference, in batches; the median of five.
    pub ms_per_image: f64,
    /// All epochs.
    pub train_seconds: f64,
    /// What it made of the images held out.
    pub outputs: Tensor,
}

impl std::str::FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = || Task::ALL.map(Task::name).join(", ");
        Task::ALL
            .into_iter()
            .find(|task| task.name() == name)
            .ok_or_else(|| Error::invalid("task", format!("one of {}", known()), name))
    }
}

#[cfg(test)]
mod tests {
    use tilewise_kernels::Cpu;

    use super::*;
    use crate::data::{Cells, digits};

    fn compare(task: Task, data: &Dataset) {
        let field = Field::new(task, data, 1, 4).unwrap();
        let fit = Fit { epochs: 2, batch: 8, ..Fit::new(task.goal()) };
        let mut standings = Vec::new();
        for (name, network) in field.contenders(4, None, 4) {
            let mut epochs = 0;
            let device = Cpu::new().unwrap();
            let standing = field.enter(device, &network, &fit, &mut |epoch, _| epochs = epoch).unwrap();
            assert_eq!(epochs, 2);
            assert!(standing.macs > 0.0 && standing.parameters > 0 && standing.ms_per_image > 0.0);
            assert!(standing.quality[0].1.is_finite(), "{name}: {:?}", standing.quality);
            assert_eq!(standing.outputs.shape().n, field.samples.held_out.len());
            standings.push((name, standing));
        }
        let parameters: Vec<_> = standings.iter().map(|(_, standing)| standing.parameters).collect();
        assert!(parameters[1] < parameters[2], "shortcuts have weights: {parameters:?}");
        assert!(field.picture("networks", &standings, 4).unwrap().png().is_ok());
    }

    #[test]
    fn networks_meet_in_every_task() {
        let cells = Cells { count: 12, size: 17, seed: 1 }.generate().unwrap();
        compare(Task::Segment, &cells);
        let digits = digits().unwrap().subset(&Vec::from_iter(0..120)).unwrap();
        compare(Task::Reconstruct, &digits);
        compare(Task::Anomaly, &digits);
    }

    #[test]
    fn data_without_what_a_task_needs_is_refused() {
        let cells = Cells { count: 6, size: 16, seed: 1 }.generate().unwrap();
        assert!(Field::new(Task::Segment, &digits().unwrap(), 0, 5).is_err());
        assert!(Field::new(Task::Anomaly, &cells, 0, 5).is_err());
        assert!(Field::new(Task::Reconstruct, &cells, 0, 5).is_ok());
        assert!("classify".parse::<Task>().is_err() && "anomaly".parse::<Task>().is_ok());
    }
}
