//! Many trainings from one configuration: each value that is a list is tried with each of all others.

use toml::{Table, Value};

use super::config::Config;
use super::table::check_keys;
use crate::error::{Error, Result};

/// The most trainings of one sweep.
const MAX_VARIANTS: usize = 1000;

/// One choice of all values.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// What was chosen where there was a choice: `optimiser.lr` and the value, in the order of the configuration.
    pub choices: Vec<(String, String)>,
    /// All of it.
    pub config: Config,
}

/// All choices that a table offers: the product of its lists, the last one changing fastest. A value that is a list anyway (`blocks`)
/// has a choice where it is a list of lists.
///
/// ```
/// use tilewise_model::train::variants;
/// let table = "network = { net = 'cnn', blocks = [[4, 8], [8]] }\noptimiser.lr = [0.1, 0.01, 0.001]";
/// let variants = variants(&table.parse().unwrap())?;
/// assert_eq!(variants.len(), 6);
/// assert_eq!(variants[1].choices[0], ("network.blocks".into(), "[4, 8]".into()));
/// assert_eq!(variants[1].config.optimiser.lr, 0.01);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// Those of [`Config::from_table`], for any choice; [`Error::Invalid`] for more than 1,000 choices, or an empty list.
pub fn variants(table: &Table) -> Result<Vec<Variant>> {
    let mut all = Vec::new();
    // Which keys there are, and which are lists, depends on the network; so it is chosen first.
    let nets = match table.get("network").and_then(|network| network.get("net")) {
        Some(Value::Array(nets)) => nets.clone(),
        Some(net) => vec![net.clone()],
        None => return Config::from_table(table).map(|_| all),
    };
    check_count("network.net", nets.len())?;
    for net in &nets {
        let mut table = table.clone();
        table["network"]["net"] = net.clone();
        let known = Config::named(net.as_str().unwrap_or_default())?.to_table();
        check_keys(&known, &table)?;
        let lists = lists(&known, &table);
        let count = lists.iter().try_fold(nets.len(), |count, (section, key, values)| {
            check_count(&format!("{section}.{key}"), values.len())?;
            Ok::<_, Error>(count.saturating_mul(values.len()))
        })?;
        check_count("sweep: trainings", count)?;
        for i in 0..count / nets.len() {
            let mut choices = Vec::new();
            if nets.len() > 1 {
                choices.push(("network.net".to_owned(), text(net)));
            }
            let mut left = count / nets.len();
            for (section, key, values) in &lists {
                left /= values.len();
                let value = &values[i / left % values.len()];
                table[section.as_str()][key.as_str()] = value.clone();
                choices.push((format!("{section}.{key}"), text(value)));
            }
            all.push(Variant { choices, config: Config::from_table(&table)? });
        }
    }
    Ok(all)
}

/// The keys with a choice: section, key, values.
fn lists(known: &Table, table: &Table) -> Vec<(String, String, Vec<Value>)> {
    let mut lists = Vec::new();
    for (section, values) in table {
        for (key, value) in values.as_table().into_iter().flatten() {
            let is_list = known.get(section).and_then(|s| s.get(key)).is_some_and(Value::is_array);
            if let Value::Array(values) = value
                && (!is_list || values.iter().any(Value::is_array))
            {
                lists.push((section.clone(), key.clone(), values.clone()));
            }
        }
    }
    lists
}

fn check_count(what: &str, count: usize) -> Result<()> {
    if (1..=MAX_VARIANTS).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(what, format!("1 to {MAX_VARIANTS} values"), count))
}

/// A value as people write it: a text without its quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Variant>> {
        variants(&text.parse().unwrap())
    }

    #[test]
    fn networks_are_a_choice_too() {
        let all = of("network.net = ['lenet', 'vgg']\ntraining.seed = [1, 2]").unwrap();
        let chosen: Vec<Vec<_>> =
            all.iter().map(|v| v.choices.iter().map(|(_, value)| value.as_str()).collect()).collect();
        assert_eq!(chosen, [["lenet", "1"], ["lenet", "2"], ["vgg", "1"], ["vgg", "2"]]);
        assert_eq!(all[3].config.training.seed, 2);
        assert!(all[0].config != all[2].config);
    }

    #[test]
    fn without_a_list_there_is_one() {
        let all = of("network = { net = 'cnn', blocks = [4, 8] }").unwrap();
        assert_eq!((all.len(), all[0].choices.len()), (1, 0));
    }

    #[test]
    fn too_many_none_and_mistakes_are_refused() {
        let hundred = format!("{:?}", Vec::from_iter(1..=100));
        for (text, part) in [
            (format!("network.net = 'cnn'\ntraining.seed = {hundred}\ntraining.batch = {hundred}"), "10000"),
            ("network.net = 'cnn'\ntraining.seed = []".into(), "training.seed"),
            ("network.net = []".into(), "network.net"),
            ("network.net = 'cnn'\ntraining.sed = [1, 2]".into(), "training.seed"),
            ("network.net = 'cnn'\noptimiser.lr = [0.1, -1]".into(), "optimiser.lr"),
            ("training.seed = [1, 2]".into(), "network.net"),
        ] {
            let message = of(&text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
