//! Fields like `k7x7s2p3`: a name of letters, then numbers, joined by `x` or commas.

use std::str::FromStr;

use super::CaseError;
use tilewise_kernels::{Padding, Shape4};

type Result<T> = std::result::Result<T, CaseError>;

/// The fields of one part of a case, taken out one by one.
pub(super) struct Fields<'a> {
    /// What the part is called in errors, with the names it knows.
    part: &'static str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    /// Cuts `text` into fields. `part` says what is expected of it.
    pub fn lex(part: &'static str, text: &'a str) -> Result<Self> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let start = rest.find(|ch: char| !ch.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (name, after) = rest.split_at(start);
            let end = numbers_end(after);
            let (value, after) = after.split_at(end);
            if name.is_empty() || value.is_empty() {
                return Err(CaseError::syntax(format!("`{text}`"), part, rest));
            }
            if fields.iter().any(|(n, _)| *n == name) {
                return Err(CaseError::syntax(format!("`{text}`"), "each field once", name));
            }
            fields.push((name, value));
            rest = after;
        }
        Ok(Fields { part, fields })
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let i = self.fields.iter().position(|(n, _)| *n == name)?;
        Some(self.fields.remove(i).1)
    }

    /// The value of field `name` as `read` understands it; `default` if the field is not there.
    fn field<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        default: Option<T>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T> {
        match (self.take(name), default) {
            (Some(text), _) => {
                read(text).ok_or_else(|| CaseError::syntax(format!("field {name}"), expected, text))
            }
            (None, Some(default)) => Ok(default),
            (None, None) => Err(CaseError::syntax(format!("field {name}"), expected, "nothing")),
        }
    }

    /// One count: `g4`.
    pub fn count(&mut self, name: &str, default: Option<usize>) -> Result<usize> {
        self.field(name, "a count, as in 3", default, |t| t.parse().ok())
    }

    /// A real number: `alpha0.5`.
    pub fn real(&mut self, name: &str, default: Option<f32>) -> Result<f32> {
        self.field(name, "a number, as in 0.1", default, |t| t.parse().ok().filter(|v: &f32| v.is_finite()))
    }

    /// One count, if the field is there.
    pub fn optional_count(&mut self, name: &str) -> Result<Option<usize>> {
        self.field(name, "a count, as in 3", Some(None), |t| t.parse().ok().map(Some))
    }

    /// Two real numbers: `betas0.9,0.999`.
    pub fn reals(&mut self, name: &str, default: [f32; 2]) -> Result<[f32; 2]> {
        self.field(name, "two numbers, as in 0.9,0.999", Some(default), |t| {
            let (first, second) = t.split_once(',')?;
            Some([first.parse().ok()?, second.parse().ok()?])
                .filter(|all: &[f32; 2]| all.iter().all(|v| v.is_finite()))
        })
    }

    /// Height and width: `s2x1`, or `s2` for both.
    pub fn pair(&mut self, name: &str, default: Option<[usize; 2]>) -> Result<[usize; 2]> {
        self.field(name, "one count or two, as in 3 or 3x1", default, |t| match split(t, 'x')?[..] {
            [both] => Some([both, both]),
            [h, w] => Some([h, w]),
            _ => None,
        })
    }

    /// `p1`, `p1x2` (height, width) or `p1,2,3,4` (top, bottom, left, right); none if the field is not there.
    pub fn padding(&mut self) -> Result<Padding> {
        let expected = "one count, two or four, as in 1, 1x2 or 1,2,3,4 (top, bottom, left, right)";
        self.field("p", expected, Some(Padding::default()), |t| {
            if let Some([top, bottom, left, right]) = split(t, ',').as_deref() {
                return Some(Padding { top: *top, bottom: *bottom, left: *left, right: *right });
            }
            match split(t, 'x')?[..] {
                [all] => Some(Padding::from(all)),
                [h, w] => Some(Padding::symmetric(h, w)),
                _ => None,
            }
        })
    }

    /// `n1c3h4w4`; with several parts `n1c3,5h4w4`.
    pub fn extents(&mut self) -> Result<Vec<Shape4>> {
        let n = self.count("n", None)?;
        let channels = self.field("c", "a count or several, as in 3 or 3,5", None, |t| split(t, ','))?;
        let (h, w) = (self.count("h", None)?, self.count("w", None)?);
        Ok(channels.into_iter().map(|c| Shape4::new(n, c, h, w)).collect())
    }

    /// Refuses what has not been taken.
    pub fn finish(self) -> Result<()> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, value)) => {
                Err(CaseError::syntax(format!("field {name}"), self.part, format!("{name}{value}")))
            }
        }
    }
}

/// Where the numbers at the start of `text` end: digits, points, minus signs, commas, and `x` between digits.
fn numbers_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    (0..bytes.len())
        .find(|&i| match bytes[i] {
            b'0'..=b'9' | b'.' | b'-' | b',' => false,
            b'x' => !(i > 0 && digit(i - 1) && digit(i + 1)),
            _ => true,
        })
        .unwrap_or(bytes.len())
}

/// Counts between separators.
fn split(text: &str, separator: char) -> Option<Vec<usize>> {
    text.split(separator).map(|t| usize::from_str(t).ok()).collect()
}
