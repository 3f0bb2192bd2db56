//! What is printed, and how: for people or for programs, coloured or not, and never with what could steer a terminal.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use hallpass_sdk::client::Error;
use hallpass_sdk::wire::Finding;
use serde::Serialize;
use serde_json::json;

use crate::args::Format;
use crate::exit;

/// Where and how to print.
pub(crate) struct Output {
    format: Format,
    colour: bool,
}

/// Colours by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Waiting,
    Bad,
    Faint,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        // no-color.org: set and not empty, whatever the value.
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { format, colour: !set("NO_COLOR") && !dumb && std::io::stdout().is_terminal() }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Writes bytes to standard output. A reader that has seen enough is no failure.
    pub(crate) fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn text(&self, text: &str) -> anyhow::Result<()> {
        self.write(text.as_bytes())
    }

    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.text(&text)
    }

    /// Prints as the format says.
    pub(crate) fn show<T: Serialize>(&self, value: &T, human: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Human => self.text(&human(value)),
            Format::Json => self.json(value),
        }
    }

    /// Tells people something beside the result.
    pub(crate) fn note(&self, words: &str) {
        if self.format == Format::Human {
            self.say(&format!("hallpass: {}", printable(words)));
        }
    }

    /// Tells of something that needs attention, in either format.
    pub(crate) fn warn(&self, words: &str) {
        match self.format {
            Format::Human => self.say(&format!("hallpass: {}", printable(words))),
            Format::Json => self.say(&json!({"warning": words}).to_string()),
        }
    }

    /// Tells of a failure, on standard error.
    pub(crate) fn complain(&self, error: &anyhow::Error) {
        let sdk = error.downcast_ref::<Error>();
        let mut words = String::new();
        for (depth, cause) in error.chain().enumerate() {
            let separator = if depth == 0 { "" } else { ": " };
            let _ = write!(words, "{separator}{cause}");
        }
        match self.format {
            Format::Human => {
                self.say(&format!("hallpass: {}", printable(&words)));
                for found in sdk.map(Error::findings).unwrap_or_default() {
                    self.say(&finding(found));
                }
                if let Some(id) = sdk.and_then(Error::request_id) {
                    let on_record = sdk.is_some_and(Error::is_on_record);
                    let kept =
                        if on_record { "the broker's audit log has it under request" } else { "this was request" };
                    self.say(&format!("hallpass: {kept} {}", printable(id)));
                }
            }
            Format::Json => {
                let told = json!({"error": {
                    "code": sdk.and_then(Error::code),
                    "detail": words,
                    "request_id": sdk.and_then(Error::request_id),
                    "findings": sdk.map(Error::findings).unwrap_or_default(),
                    "exit_status": u8::from(exit::code_of(error)),
                }});
                self.say(&told.to_string());
            }
        }
    }

    fn say(&self, line: &str) {
        // There is nowhere left to say that standard error cannot be written.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Aligned columns under their heads; the cell at `painted` has the row's tone.
    pub(crate) fn table<const N: usize>(
        &self,
        head: [&str; N],
        painted: usize,
        rows: &[(Tone, [String; N])],
    ) -> String {
        let mut widths = head.map(|name| name.chars().count());
        for (_, row) in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String; N]| -> Vec<String> {
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect()
        };
        let mut text = format!("{}\n", self.paint(Tone::Faint, line(&head.map(str::to_owned)).join("  ").trim_end()));
        for (tone, row) in rows {
            let mut cells = line(row);
            // Painted after padding: escapes have no width.
            if let Some(cell) = cells.get_mut(painted) {
                *cell = self.paint(*tone, cell);
            }
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }

    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Waiting => 33,
            Tone::Bad => 31,
            Tone::Faint => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// How far something has come, on standard error: one line that is written over on a terminal, and elsewhere a line for
/// each change. For programs nothing.
pub(crate) struct Progress<'a> {
    output: &'a Output,
    over: bool,
    last: String,
    begun: bool,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        let over = output.format == Format::Human && std::io::stderr().is_terminal();
        Self { output, over, last: String::new(), begun: false }
    }

    pub(crate) fn show(&mut self, done: u64, of: u64, words: &str) {
        let words = printable(words);
        if self.begun && words == self.last {
            return;
        }
        if self.over {
            // Blanks instead of an escape: the line is written over on any terminal.
            let width = self.last.chars().count();
            let _ = write!(std::io::stderr().lock(), "\rhallpass: {} {words:width$}", bar(done, of));
            let _ = std::io::stderr().flush();
        } else {
            self.output.note(&words);
        }
        self.begun = true;
        self.last = words;
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.over && self.begun {
            self.output.say("");
        }
    }
}

fn bar(done: u64, of: u64) -> String {
    const WIDTH: u64 = 20;
    let filled = done.min(of).saturating_mul(WIDTH).checked_div(of).unwrap_or(WIDTH);
    (0..WIDTH).fold(String::from("["), |bar, at| bar + if at < filled { "#" } else { "." }) + "]"
}

/// Text that others wrote, without what could steer the terminal or hide: control and formatting characters.
pub(crate) fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Something wrong in a file, as compilers say it.
pub(crate) fn finding(found: &Finding) -> String {
    let place = found.line.map_or_else(|| found.file.clone(), |line| format!("{}:{line}", found.file));
    printable(&format!("{place}: {}", found.reason))
}

/// Labelled lines, aligned. Lines without a value are left out.
pub(crate) fn fields(lines: &[(&str, Option<String>)]) -> String {
    let width = lines.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:width$}  {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(printable("deploy\u{1b}[2J\r\n\u{202e}x"), "deploy\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}x");
        assert_eq!(printable("grüße 4f2c"), "grüße 4f2c");
    }

    #[test]
    fn a_bar_is_full_when_nothing_is_left() {
        assert_eq!(bar(0, 12), "[....................]");
        assert_eq!(bar(6, 12), "[##########..........]");
        for (done, of) in [(12, 12), (0, 0), (13, 12)] {
            assert_eq!(bar(done, of), "[####################]");
        }
    }

    #[test]
    fn fields_are_aligned_and_empty_ones_left_out() {
        let lines = [("id", Some("1".to_owned())), ("longer", None), ("role", Some("r".to_owned()))];
        assert_eq!(fields(&lines), "id    1\nrole  r\n");
    }
}
