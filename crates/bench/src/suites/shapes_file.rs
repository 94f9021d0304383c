//! Layers from a JSON file: a list of `{"name", "n", "c", "h", "w", "k", "r", "s", "p"}` = batch, input channels, height,
//! width, output channels, kernel, stride, padding on all four sides.
//!
//! The values are taken one by one rather than by a derived reader, so that an error can name entry and field.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tilewise_kernels::{Conv2dParams, Conv2dShape, Shape4};

use super::networks::Layer;
use crate::error::{Error, Result};

/// The layers of a shapes file.
///
/// # Errors
/// [`Error::File`], [`Error::Json`], [`Error::NoShapes`], [`Error::Field`] or [`Error::Shape`].
pub fn read_shapes(path: &Path) -> Result<Vec<Layer>> {
    let text = fs::read_to_string(path).map_err(Error::read(path))?;
    parse_shapes(path, &text)
}

fn parse_shapes(path: &Path, text: &str) -> Result<Vec<Layer>> {
    let json: Value =
        serde_json::from_str(text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    match json {
        Value::Array(entries) if entries.is_empty() => {
            Err(Error::NoShapes { path: path.to_owned(), got: "an empty list" })
        }
        Value::Array(entries) => {
            entries.iter().enumerate().map(|(i, value)| Entry { path, index: i + 1, value }.layer()).collect()
        }
        other => Err(Error::NoShapes { path: path.to_owned(), got: kind(&other) }),
    }
}

/// What a JSON value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// One entry of a shapes file, with what an error says of it.
struct Entry<'a> {
    path: &'a Path,
    /// From 1.
    index: usize,
    value: &'a Value,
}

impl Entry<'_> {
    fn layer(&self) -> Result<Layer> {
        let name = match self.value.get("name") {
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            _ => return Err(self.wrong("name", "a name in quotes")),
        };
        let extent = |field| self.number(field, 1, "a whole number of at least 1");
        let input = Shape4::new(extent("n")?, extent("c")?, extent("h")?, extent("w")?);
        let (out_channels, kernel, stride) = (extent("k")?, extent("r")?, extent("s")?);
        let padding = self.number("p", 0, "a whole number of at least 0")?;
        let params = Conv2dParams::default().stride(stride).padding(padding);
        let shape = Conv2dShape::new(input, out_channels, [kernel, kernel], params).map_err(|error| {
            Error::Shape { path: self.path.to_owned(), entry: self.label(), source: Box::new(error) }
        })?;
        let network = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        Ok(Layer { network, name, shape })
    }

    fn number(&self, field: &'static str, least: usize, expected: &'static str) -> Result<usize> {
        let number = self.value.get(field).and_then(Value::as_u64).and_then(|v| usize::try_from(v).ok());
        number.filter(|&v| v >= least).ok_or_else(|| self.wrong(field, expected))
    }

    fn wrong(&self, field: &'static str, expected: &'static str) -> Error {
        let got = match (self.value, self.value.get(field)) {
            (Value::Object(_), Some(value)) => value.to_string(),
            (Value::Object(_), None) => "no such field".to_owned(),
            (other, _) => format!("{} instead of an object", kind(other)),
        };
        Error::Field { path: self.path.to_owned(), entry: self.label(), field, expected, got }
    }

    /// `3 ("conv1")`
    fn label(&self) -> String {
        match self.value.get("name") {
            Some(Value::String(name)) => format!("{} ({name:?})", self.index),
            _ => self.index.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Layer>> {
        parse_shapes(Path::new("dir/my.json"), text)
    }

    #[test]
    fn a_shapes_file_is_read() {
        let layers =
            parse(r#"[{"name":"a","n":2,"c":3,"h":20,"w":24,"k":8,"r":5,"s":2,"p":2,"why":"x"}]"#).unwrap();
        assert_eq!((layers[0].name.as_str(), layers[0].network.as_str()), ("a", "my.json"));
        assert_eq!(layers[0].shape.output(), Shape4::new(2, 8, 10, 12));
    }

    #[test]
    fn a_bad_field_is_named_with_entry_and_file() {
        let good = r#"{"name":"good","n":1,"c":1,"h":8,"w":8,"k":1,"r":3,"s":1,"p":1}"#;
        for (bad, field, got) in [
            (r#"{"n":1,"c":1,"h":8,"w":8,"k":1,"r":3,"s":1,"p":1}"#, "name", "no such field"),
            (r#"{"name":7,"n":1,"c":1,"h":8,"w":8,"k":1,"r":3,"s":1,"p":1}"#, "name", "7"),
            (r#"{"name":"bad","n":1,"c":1,"h":8,"w":8,"k":1,"r":3,"s":1}"#, "p", "no such field"),
            (r#"{"name":"bad","n":1,"c":1,"h":8,"w":8,"k":1,"r":3,"s":1,"p":-1}"#, "p", "-1"),
            (r#"{"name":"bad","n":1,"c":0,"h":8,"w":8,"k":1,"r":3,"s":1,"p":1}"#, "c", "0"),
            (r#"{"name":"bad","n":1,"c":1,"h":8.5,"w":8,"k":1,"r":3,"s":1,"p":1}"#, "h", "8.5"),
            (r#"{"name":"bad","n":1,"c":1,"h":8,"w":"8","k":1,"r":3,"s":1,"p":1}"#, "w", "\"8\""),
            (r#"{"name":"bad","n":1,"c":1,"h":8,"w":8,"k":1e40,"r":3,"s":1,"p":1}"#, "k", "1e+40"),
            ("[1]", "name", "a list instead of an object"),
        ] {
            let message = parse(&format!("[{good},{bad}]")).unwrap_err().to_string();
            let all = ["dir/my.json", "entry 2", &format!("\"{field}\""), got];
            assert!(all.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn a_window_that_does_not_fit_is_named_with_entry_and_file() {
        let text = r#"[{"name":"big","n":1,"c":1,"h":8,"w":8,"k":1,"r":11,"s":1,"p":1}]"#;
        let message = parse(text).unwrap_err().to_string();
        assert!(
            message.contains("entry 1 (\"big\")") && message.contains("padded input height"),
            "{message}"
        );
        let text = r#"[{"name":"vast","n":9999999999,"c":9999999999,"h":8,"w":8,"k":1,"r":1,"s":1,"p":1}]"#;
        assert!(parse(text).unwrap_err().to_string().contains("address space"));
    }

    #[test]
    fn what_is_no_list_of_shapes_is_refused() {
        for (text, part) in
            [("[]", "an empty list"), ("{}", "an object"), ("null", "null"), ("[", "not JSON")]
        {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = read_shapes(Path::new("/no/such/file.json")).unwrap_err().to_string();
        assert!(message.starts_with("/no/such/file.json: cannot read"), "{message}");
    }
}
