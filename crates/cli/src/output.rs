//! Printing: results to standard output, progress and errors to standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line to standard output. A reader that has seen enough (`| head`) is no error.
pub fn say(text: impl Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a line to standard error, if anybody still reads it.
pub fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A bar on standard error; nothing where that is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        // The template is a constant and well-formed; a bar of another style would still be a bar.
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg:32}") {
            bar.set_style(style);
        }
        Progress(bar)
    }

    /// `done` of `total`, the next being `name`.
    pub fn show(&self, done: usize, total: usize, name: &str) {
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
        self.0.set_message(name.to_owned());
    }

    /// Makes room for the result.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
