//! `tilewise detect`: what is abnormal?

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::value_parser;
use tilewise_bench::files;
use tilewise_bench::report::{Detections, DetectorRow};
use tilewise_kernels::Training;
use tilewise_model::data::{self, Dataset, Options};
use tilewise_model::detect::{Detection, Detector, Samples, Threshold};
use tilewise_model::fit::{Fit, Goal};
use tilewise_model::train::Run;
use tilewise_model::weights::Weights;
use tilewise_model::zoo::{AutoEncoder, Network, Nonlinearity};

use crate::Outcome;
use crate::device::{Device, DeviceArgs};
use crate::output::{Progress, say};

/// What `--normal` says for each class in turn.
const ALL: &str = "all";

/// Rows of each kind in the picture of the worst cases.
const WORST: usize = 3;

#[derive(clap::Args)]
pub struct DetectArgs {
    /// Images with classes: `digits`, or a file or folder
    #[arg(long, value_name = "NAME|PATH", default_value = "digits")]
    data: PathBuf,
    /// What is normal: a class of the data; `all` for each class in turn; or a folder of normal images, instead of the data
    #[arg(long, value_name = "CLASS|all|FOLDER", default_value = "0")]
    normal: String,
    /// A folder of abnormal images, beside --normal FOLDER
    #[arg(long, value_name = "FOLDER", conflicts_with = "data")]
    abnormal: Option<PathBuf>,
    /// Resize the images to so many rows and columns
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..), allow_negative_numbers = true)]
    size: Option<u16>,
    /// Every so-manieth image is held out
    #[arg(long, value_name = "K", default_value_t = 5)]
    holdout: usize,
    /// Feature maps of each convolution of the encoder
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "16,32")]
    maps: Vec<usize>,
    /// Numbers in the middle; 0 for none but the feature maps
    #[arg(long, value_name = "N", default_value_t = 16)]
    latent: usize,
    /// The function behind each hidden layer
    #[arg(long, default_value = "relu", value_parser = nonlinearity())]
    activation: Nonlinearity,
    /// The learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f32,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    /// How often each image is seen
    #[arg(long, value_name = "N", default_value_t = 20)]
    epochs: u64,
    /// Decides the first weights and the order of the images
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Abnormal is a loss so many standard deviations above the mean of the training images'
    #[arg(long, value_name = "K", default_value_t = 1.0, allow_negative_numbers = true)]
    k: f64,
    /// Abnormal is a loss above those of this percentage of the training images
    #[arg(long, value_name = "P", conflicts_with = "k", allow_negative_numbers = true)]
    percentile: Option<f64>,
    /// Do not train, but take the weights of this file (safetensors), with its feature maps
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lr", "epochs", "seed", "maps", "latent"])]
    weights: Option<PathBuf>,
    /// Do not train, but take the network and the best weights of a folder that `tilewise train autoencoder` made
    #[arg(
        long,
        value_name = "FOLDER",
        conflicts_with_all = ["weights", "lr", "epochs", "seed", "maps", "latent", "activation"]
    )]
    run: Option<PathBuf>,
    /// Write the weights, for --weights
    #[arg(long, value_name = "FILE", conflicts_with_all = ["weights", "run"])]
    save: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Where the pictures go: the losses with the threshold (SVG), and the worst cases (PNG)
    #[arg(long, value_name = "FOLDER", default_value = "detect")]
    out: PathBuf,
    /// Write what was found as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What each detector is trained on, and what it is called.
type Kinds = Vec<(String, Samples)>;

impl DetectArgs {
    fn threshold(&self) -> Threshold {
        self.percentile.map_or(Threshold::Deviations(self.k), Threshold::Percentile)
    }

    fn fit(&self) -> Fit {
        let DetectArgs { lr, batch, epochs, seed, .. } = *self;
        Fit { lr, batch, epochs, seed, ..Fit::new(Goal::Image) }
    }

    fn read(&self, path: &Path) -> Result<Dataset, Box<dyn Error>> {
        let size = self.size.map(|size| [size.into(); 2]);
        Ok(data::open_with(path, &Options { size, ..Options::default() })?)
    }

    /// What is normal, and what of the data it is.
    fn kinds(&self) -> Result<(String, Kinds), Box<dyn Error>> {
        let folder = Path::new(&self.normal);
        if self.abnormal.is_some() || (folder.is_dir() && self.normal != ALL) {
            let normal = self.read(folder)?;
            let abnormal = self.abnormal.as_deref().map(|path| self.read(path)).transpose()?;
            let samples = Samples::of_sets(&normal, abnormal.as_ref(), self.holdout)?;
            let name =
                folder.file_name().map_or(self.normal.clone(), |name| name.to_string_lossy().into_owned());
            return Ok((format!("{}: {normal}", self.normal), vec![(name, samples)]));
        }
        let data = self.read(&self.data)?;
        data.labels()?;
        let classes: Vec<usize> = match self.normal.as_str() {
            ALL => (0..data.class_names().len()).collect(),
            name => vec![data.class(name)?],
        };
        let kind = |class: usize| -> Result<_, Box<dyn Error>> {
            Ok((data.class_names()[class].clone(), Samples::of_class(&data, class, self.holdout)?))
        };
        let kinds = classes.into_iter().map(kind).collect::<Result<_, _>>()?;
        Ok((format!("{}: {data}", self.data.display()), kinds))
    }

    /// A network that was trained before, if one is named.
    fn trained(&self) -> Result<Option<Trained>, Box<dyn Error>> {
        if let Some(path) = &self.weights {
            return Ok(Some(Trained { network: None, weights: Weights::load(path)?, source: path.clone() }));
        }
        let Some(folder) = &self.run else { return Ok(None) };
        let run = Run::open(folder)?;
        match run.config()?.network {
            Network::AutoEncoder(network) => {
                let weights = run.best_weights()?;
                Ok(Some(Trained { network: Some(network), weights, source: folder.clone() }))
            }
            other => {
                Err(format!("--run: expected a training of an autoencoder, got one of a {}", other.name())
                    .into())
            }
        }
    }

    fn network(&self, images: &Dataset, trained: Option<&Trained>) -> Result<AutoEncoder, Box<dyn Error>> {
        let (in_channels, [h, w]) = (images.channels(), images.size());
        let size = h.min(w);
        let network = match trained {
            Some(Trained { network: Some(network), .. }) => return Ok(network.clone()),
            Some(Trained { weights, .. }) => AutoEncoder::of_weights(weights, in_channels, size),
            None => {
                let (maps, latent) = (self.maps.clone(), self.latent);
                AutoEncoder { in_channels, size, maps, latent, ..AutoEncoder::default() }
            }
        };
        if h != w && network.latent > 0 {
            let got =
                format!("images: expected as many rows as columns (--size N resizes them), got {h}x{w}");
            return Err(got.into());
        }
        Ok(AutoEncoder { activation: self.activation, ..network })
    }
}

/// A network that was trained before.
struct Trained {
    /// Its extents; `None` if only its weights tell them.
    network: Option<AutoEncoder>,
    weights: Weights,
    source: PathBuf,
}

fn nonlinearity() -> impl TypedValueParser<Value = Nonlinearity> {
    PossibleValuesParser::new(Nonlinearity::ALL.map(Nonlinearity::name)).map(|name| {
        Nonlinearity::ALL.into_iter().find(|f| f.name() == name).expect("one of those that are possible")
    })
}

pub fn run(args: &DetectArgs) -> Outcome {
    match args.device.open()? {
        Device::Cpu(cpu) => detect(args, &cpu),
        Device::Gpu(gpu) => detect(args, &gpu),
    }
}

fn detect<B: Training + Clone>(args: &DetectArgs, device: &B) -> Outcome {
    let (data, kinds) = args.kinds()?;
    let several = kinds.len() > 1;
    let trained = args.trained()?;
    if several && (args.save.is_some() || trained.is_some()) {
        let what =
            "--weights, --run and --save: are of one detector, but --normal all trains one for each class";
        return Err(what.into());
    }
    fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let (fit, threshold) = (args.fit(), args.threshold());
    let progress = Progress::new();
    let (mut rows, mut written, mut about) = (Vec::new(), Vec::new(), String::new());
    for (i, (name, samples)) in kinds.iter().enumerate() {
        let network = args.network(&samples.train, trained.as_ref())?;
        let graph = network.graph()?;
        let (done, total) = (i as u64 * fit.epochs, kinds.len() as u64 * fit.epochs);
        let mut show = |epoch: u64, loss: f64| {
            progress.show((done + epoch) as usize, total as usize, &format!("{name}: loss {loss:.5}"));
        };
        let mut detector = match &trained {
            Some(Trained { weights, .. }) => {
                Detector::with_weights(device.clone(), graph, weights, fit.batch, threshold, &samples.train)?
            }
            None => Detector::train(device.clone(), graph, &fit, threshold, &samples.train, &mut show)?,
        };
        if let Some(path) = &args.save {
            detector.weights()?.save(path)?;
        }
        about = format!(
            "AutoEncoder of {:?} feature maps, {} numbers in the middle",
            network.maps, network.latent
        );
        let detection = detector.judge(samples)?;
        written.extend(draw(args, several, name, samples, &detection)?);
        rows.push(DetectorRow::new(name, &detection));
    }
    progress.clear();
    let training = match &trained {
        Some(Trained { source, .. }) => format!("weights of {}", source.display()),
        None => {
            format!("{} epochs, batches of {}, Adam {}, seed {}", fit.epochs, fit.batch, fit.lr, fit.seed)
        }
    };
    let report = Detections::new(format!("{data}\n{about}: {training}"), threshold, rows);
    say(format_args!("{report}\n"))?;
    match written.len() {
        0..=4 => written.iter().try_for_each(|path| say(format_args!("picture: {}", path.display())))?,
        count => say(format_args!("{count} pictures in {}", args.out.display()))?,
    }
    if let Some(path) = &args.json {
        files::write_json(path, &report)?;
    }
    Ok(true)
}

/// The losses with the threshold, and the worst cases.
fn draw(
    args: &DetectArgs,
    several: bool,
    name: &str,
    samples: &Samples,
    detection: &Detection,
) -> Result<[PathBuf; 2], Box<dyn Error>> {
    let title = format!("normal: {name}");
    // Any name becomes one that a file may have.
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let stem = |what: &str| if several { format!("{what}-{safe}") } else { what.to_owned() };
    let paths = [
        args.out.join(stem("histogram")).with_added_extension("svg"),
        args.out.join(stem("worst")).with_added_extension("png"),
    ];
    files::write(&paths[0], detection.histogram(&title)?.as_bytes())?;
    files::write(&paths[1], &detection.worst(&title, samples.held_out.images(), WORST)?.png()?)?;
    Ok(paths)
}
