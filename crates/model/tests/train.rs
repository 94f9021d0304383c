//! Training from outside: seeds, threads, folders, and going on after a stop.

use std::fs;

use tilewise_kernels::Cpu;
use tilewise_model::data::{self, Cells, Dataset};
use tilewise_model::train::{Config, Run, Trainer};
use tilewise_model::{Error, Weights};

/// A CNN with everything that could remember something: momentum, batch norms, augmentation, a schedule, a last batch of its own size.
const CNN: &str = "
    network = { net = 'cnn', blocks = [4, 8], dense = [16], batch_norm = true }
    augment = { shift = 1, flip_horizontal = true }
    optimiser = { lr = 0.01, clip_norm = 1.0 }
    schedule = { name = 'cosine', warmup = 0.5 }
    training = { epochs = 3, batch = 48, seed = 7 }
";

fn digits() -> Dataset {
    data::digits().unwrap().subset(&Vec::from_iter(0..250)).unwrap()
}

fn cpu(threads: usize) -> Cpu {
    Cpu::new().unwrap().threads(threads)
}

fn train(config: &str, data: &Dataset, threads: usize) -> Trainer<Cpu> {
    let mut trainer = Trainer::new(cpu(threads), Config::parse(config).unwrap(), data).unwrap();
    while !trainer.is_finished() {
        trainer.train_epoch(&mut |_| {}).unwrap();
    }
    trainer
}

fn bits(weights: &Weights) -> Vec<u32> {
    weights.iter().flat_map(|(_, array)| &array.values).map(|value| value.to_bits()).collect()
}

#[test]
fn the_seed_decides_the_weights_and_threads_do_not() {
    let data = digits();
    let weights = |config: &str, threads| bits(&train(config, &data, threads).weights().unwrap());
    let one = weights(CNN, 1);
    assert_eq!(one, weights(CNN, 2));
    assert_ne!(one, weights(&CNN.replace("seed = 7", "seed = 8"), 1));
}

#[test]
fn going_on_ends_with_the_bits_of_a_training_that_never_stopped() {
    let data = digits();
    for config in [CNN.to_owned(), CNN.replace("lr = 0.01", "name = 'sgd', momentum = 0.9, lr = 0.01")] {
        let whole = train(&config, &data, 2);
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&config).unwrap();
        let (run, mut trainer) =
            Run::begin(folder.path().join("run"), cpu(1), config.clone(), &data).unwrap();
        for _ in 0..3 {
            drop(trainer);
            trainer = run.resume(cpu(2), config.clone(), &data).unwrap();
            trainer.train_epoch(&mut |_| {}).unwrap();
            run.save(&trainer).unwrap();
        }
        assert!(trainer.is_finished());
        let [whole, parts] = [whole.checkpoint().unwrap(), trainer.checkpoint().unwrap()];
        assert_eq!(bits(&whole.weights), bits(&parts.weights));
        assert_eq!(whole.optimiser, parts.optimiser);
        assert_eq!(run.last_weights().unwrap(), parts.weights);
        for (a, b) in whole.history.epochs.iter().zip(&parts.history.epochs) {
            assert_eq!((a.train_loss, a.loss, &a.metrics), (b.train_loss, b.loss, &b.metrics));
        }
        let csv = fs::read_to_string(run.folder().join("metrics.csv")).unwrap();
        assert_eq!(csv.lines().count(), 4);
        assert!(fs::read_to_string(run.folder().join("curves.svg")).unwrap().starts_with("<svg"));
    }
}

#[test]
fn only_time_and_place_may_change_when_a_training_goes_on() {
    let data = digits();
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse(&CNN.replace("epochs = 3", "epochs = 1")).unwrap();
    let (run, mut trainer) = Run::begin(folder.path(), cpu(1), config.clone(), &data).unwrap();
    run.train(&mut trainer, &mut |_| {}).unwrap();

    let refused = |config: Config, data: &Dataset| match run.resume(cpu(1), config, data) {
        Ok(_) => panic!("went on"),
        Err(error) => error.to_string(),
    };
    let mut other = config.clone();
    other.optimiser.lr = 0.5;
    let message = refused(other, &data);
    assert!(
        message.contains("optimiser.lr") && message.contains("0.01") && message.contains("0.5"),
        "{message}"
    );
    let message = refused(config.clone(), &data.subset(&Vec::from_iter(1..251)[..249]).unwrap());
    assert!(message.contains("249") && message.contains("250"), "{message}");
    let again = Run::begin(folder.path(), cpu(1), config.clone(), &data).err().unwrap().to_string();
    assert!(again.contains("--resume"), "{again}");

    let mut longer = config.clone();
    longer.training.epochs = 2;
    let mut trainer = run.resume(cpu(1), longer, &data).unwrap();
    run.train(&mut trainer, &mut |_| {}).unwrap();
    assert_eq!(trainer.history().epochs.len(), 2);
    assert_eq!(run.config().unwrap().training.epochs, 2);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let data = digits();
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse(&CNN.replace("epochs = 3", "epochs = 1")).unwrap();
    let (run, mut trainer) = Run::begin(folder.path(), cpu(1), config.clone(), &data).unwrap();
    run.train(&mut trainer, &mut |_| {}).unwrap();
    for file in ["checkpoint.safetensors", "best.safetensors", "config.toml", "data.toml"] {
        let path = folder.path().join(file);
        let bytes = fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 0x80;
        for damaged in [&bytes[..bytes.len() / 2], &flipped] {
            fs::write(&path, damaged).unwrap();
            let outcome = match file {
                "best.safetensors" => run.best_weights().map(|_| ()),
                "config.toml" => run.config().map(|_| ()),
                _ => run.resume(cpu(1), config.clone(), &data).map(|_| ()),
            };
            let message = outcome.expect_err(file).to_string();
            assert!(message.contains(file), "{message}");
        }
        fs::write(&path, bytes).unwrap();
    }
    run.resume(cpu(1), config, &data).unwrap();
}

#[test]
fn a_loss_that_is_no_number_stops_the_training() {
    let config = CNN.replace("lr = 0.01, clip_norm = 1.0", "lr = 1e30, name = 'sgd'");
    let config = Config::parse(&config.replace("batch_norm = true", "batch_norm = false")).unwrap();
    let mut trainer = Trainer::new(cpu(1), config, &digits()).unwrap();
    let error = trainer.train_epoch(&mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Diverged { epoch: 1, .. }), "{error}");
    assert!(error.to_string().contains("--lr"));
}

#[test]
fn autoencoders_and_unets_learn() {
    let digits = digits();
    let config = "network = { net = 'autoencoder', maps = [8, 16], latent = 16 }
        training = { epochs = 4, batch = 32 }
        optimiser.lr = 0.003";
    let trainer = train(config, &digits, 2);
    let epochs = &trainer.history().epochs;
    assert!(epochs[3].loss < 0.9 * epochs[0].loss, "{epochs:?}");
    assert!((epochs[3].loss - epochs[3].metrics[1]).abs() < 1e-6, "the loss is the mean squared error");

    let cells = Cells { count: 12, size: 32, seed: 3 }.generate().unwrap();
    let config = "network = { net = 'unet', base = 4, levels = 2 }
        training = { epochs = 5, batch = 4 }
        augment = { flip_horizontal = true, transpose = true }
        optimiser.lr = 0.01
        loss.name = 'bce_dice'";
    let trainer = train(config, &cells, 2);
    let epochs = &trainer.history().epochs;
    assert!(epochs[4].train_loss < 0.9 * epochs[0].train_loss, "{epochs:?}");
    assert_eq!(trainer.history().metrics, ["dice", "iou", "pixel_accuracy"]);
}

#[test]
fn what_does_not_fit_the_data_is_refused() {
    let data = digits();
    for (config, part) in [
        ("network = { net = 'cnn', classes = 3 }", "network.classes"),
        ("network = { net = 'cnn', size = 28 }", "network.size"),
        ("network = { net = 'cnn', in_channels = 3 }", "network.in_channels"),
        ("network = { net = 'unet' }", "mask"),
        ("network = { net = 'cnn', blocks = [1048576, 1048576], dense = [1048576] }", "at most"),
        ("network = { net = 'cnn' }\ndata.holdout = 251", "holdout"),
    ] {
        let message = Trainer::new(cpu(1), Config::parse(config).unwrap(), &data).err().unwrap().to_string();
        assert!(message.contains(part), "{config}: {message}");
    }
}
