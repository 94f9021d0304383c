//! Configurations from TOML: several tables one over the other, keys that exist, values that fit.
//!
//! What a network begins with ([`Config::named`]) has every key. A file may replace some values, and the command line some of
//! those; a key that is not there from the beginning is a mistake.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::config::Config;
use crate::error::{Error, Result};
use crate::files;

/// A configuration is some kilobytes.
const MAX_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads TOML text. `network.net` names the network ([`Config::NAMES`]); what is not there is as [`Config::named`] has it.
    ///
    /// # Errors
    /// [`Error::UnknownKey`]; [`Error::Invalid`] for text that is no TOML and for values that do not fit.
    pub fn parse(text: &str) -> Result<Self> {
        let table = text.parse().map_err(|e| Error::invalid("configuration", "TOML", e))?;
        Config::from_table(&table)
    }

    /// Reads a TOML file, and puts `over` over it.
    ///
    /// # Errors
    /// As [`Config::parse`], with the file; [`Error::Io`].
    pub fn load(path: &Path, over: &Table) -> Result<Self> {
        let mut table = read_table(path)?;
        overlay(&mut table, over);
        Config::from_table(&table).map_err(|e| Error::format(path, e))
    }

    /// Reads a table.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn from_table(table: &Table) -> Result<Self> {
        let known = Config::NAMES.join(", ");
        let net = table.get("network").and_then(|network| network.get("net"));
        let net = match net {
            Some(Value::String(net)) => net,
            Some(other) => return Err(Error::invalid("network.net", format!("one of {known}"), other)),
            None => return Err(Error::invalid("network.net", format!("one of {known}"), "nothing")),
        };
        let mut all = Config::named(net)?.to_table();
        check_keys(&all, table)?;
        let mut table = table.clone();
        // Where the table names a style, the configuration names the kind of network.
        table["network"]["net"] = all["network"]["net"].clone();
        check_values(&all, &table)?;
        overlay(&mut all, &table);
        let config = read(&all).map_err(|e| Error::invalid("configuration", "values that fit", e))?;
        config.check()?;
        Ok(config)
    }

    /// All keys with their values.
    pub fn to_table(&self) -> Table {
        Table::try_from(self).expect("numbers, texts and lists, in tables of their own")
    }

    /// As TOML text, which [`Config::parse`] reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers, texts and lists, in tables of their own")
    }
}

/// Reads a TOML file as it is.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] with the place of what is no TOML.
pub fn read_table(path: &Path) -> Result<Table> {
    let text = String::from_utf8(files::read(path, MAX_BYTES)?)
        .map_err(|_| Error::format(path, "expected TOML, got bytes that are no text"))?;
    text.parse().map_err(|e| Error::format(path, format!("expected TOML: {e}")))
}

/// Puts the values of one table over those of another, section by section.
pub fn overlay(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(own)), Value::Table(over)) => overlay(own, over),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Refuses a key that is not among those of `all`: `section.key`, or a section.
pub(super) fn check_keys(all: &Table, table: &Table) -> Result<()> {
    for (section, value) in table {
        let known = all.get(section).and_then(Value::as_table);
        match (known, value) {
            (Some(known), Value::Table(own)) => {
                if let Some(key) = own.keys().find(|key| !known.contains_key(*key)) {
                    return Err(unknown(all, &format!("{section}.{key}")));
                }
            }
            (Some(_), other) => {
                let expected = format!("a section: [{section}]");
                return Err(Error::invalid(section, expected, other));
            }
            (None, Value::Table(own)) => {
                // Either the section is misspelled, or all of it.
                let key = own.keys().next().map_or(section.clone(), |key| format!("{section}.{key}"));
                return Err(unknown(all, &key));
            }
            (None, _) => return Err(unknown(all, section)),
        }
    }
    Ok(())
}

/// Refuses a value that does not fit its key: of all values from the beginning, one at a time is replaced.
fn check_values(all: &Table, table: &Table) -> Result<()> {
    for (section, values) in table {
        for (key, value) in values.as_table().into_iter().flatten() {
            let mut one = all.clone();
            one[section.as_str()][key.as_str()] = value.clone();
            if let Err(message) = read(&one) {
                return Err(Error::invalid(
                    format!("{section}.{key}"),
                    "a value that fits",
                    format!("{value}: {message}"),
                ));
            }
        }
    }
    Ok(())
}

fn read(all: &Table) -> Result<Config, String> {
    // In one line.
    Config::deserialize(all.clone())
        .map_err(|e| e.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

fn unknown(all: &Table, key: &str) -> Error {
    let distance = |known: &str| {
        let bare = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
        // By the last part first: the right key in the wrong section is the likeliest mistake.
        let last = strsim::damerau_levenshtein(&bare(known), &bare(key));
        (last, strsim::damerau_levenshtein(known, key))
    };
    let nearest = keys(all).into_iter().min_by_key(|known| distance(known)).unwrap_or_default();
    Error::UnknownKey { key: key.into(), nearest }
}

/// All keys of a configuration, each with its section.
pub(super) fn keys(all: &Table) -> Vec<String> {
    let of = |(section, value): (&String, &Value)| -> Vec<String> {
        let keys = value.as_table().into_iter().flat_map(Table::keys);
        keys.map(|key| format!("{section}.{key}")).collect()
    };
    all.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{Cnn, Network};

    #[test]
    fn what_is_written_is_read_again() {
        for name in Config::NAMES {
            let mut config = Config::named(name).unwrap();
            config.optimiser.lr = 0.1 + 0.2;
            config.training.seed = 123_456_789_012;
            assert_eq!(Config::parse(&config.to_toml()).unwrap(), config, "{name}");
        }
    }

    #[test]
    fn a_style_is_a_network_with_other_values() {
        let config = Config::parse("[network]\nnet = 'lenet'\nkernel = 7").unwrap();
        let Network::Cnn(cnn) = &config.network else { panic!("{config:?}") };
        assert_eq!(cnn, &Cnn { kernel: 7, in_channels: 0, size: 0, classes: 0, ..Cnn::lenet() });
    }

    #[test]
    fn mistakes_are_named() {
        for (text, parts) in [
            ("", &["network.net", "cnn, lenet", "nothing"][..]),
            ("network.net = 'cmm'", &["network.net", "unet", "cmm"]),
            ("network.net = 3", &["network.net", "3"]),
            ("network = 3", &["network.net"]),
            ("lr = 3\nnetwork.net = 'cnn'", &["lr", "did you mean optimiser.lr?"]),
            ("[network]\nnet = 'unet'\nbse = 4", &["network.bse", "did you mean network.base?"]),
            ("[network]\nnet = 'unet'\n[optimizer]\nlr = 4", &["optimizer.lr", "optimiser.lr"]),
            ("training = 3\nnetwork.net = 'cnn'", &["training", "[training]"]),
            ("[network]\nnet = 'cnn'\nblocks = 3", &["network.blocks", "3", "sequence"]),
            ("[network]\nnet = 'cnn'\n[optimiser]\nlr = 'fast'", &["optimiser.lr", "fast"]),
            ("[network]\nnet = 'cnn'\n[optimiser]\nlr = -1", &["optimiser.lr", "-1"]),
            ("[network]\nnet = 'cnn'\n[optimiser]\nname = 'adan'", &["adan", "adamw"]),
            ("[network]\nnet = 'cnn'\n[loss]\nname = 'mse'", &["loss.name", "cross_entropy", "mse"]),
            ("[network]\nnet = 'autoencoder'\n[data]\nnormalise = true", &["data.normalise"]),
            ("[network]\nnet = 'cnn'\n[training]\nbatch = 0", &["training.batch"]),
            ("[network]\nnet = 'cnn'\n[training]\nbatch = -5", &["-5"]),
            ("[network]\nnet = 'cnn'\n[data]\nholdout = 1", &["data.holdout"]),
            ("[network\nnet = 'cnn'", &["TOML"]),
        ] {
            let message = Config::parse(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        }
    }

    #[test]
    fn a_file_that_is_no_configuration_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
        let message = Config::load(&path, &Table::new()).unwrap_err().to_string();
        assert!(message.contains("config.toml") && message.contains("no text"), "{message}");
        std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(Config::load(&path, &Table::new()).unwrap_err().to_string().contains("at most"));
        assert!(matches!(Config::load(&folder.path().join("none"), &Table::new()), Err(Error::Io { .. })));
    }
}
