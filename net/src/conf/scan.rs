//! The characters of one file: blanks, comments, words and strings.

use std::sync::Arc;

use super::{ConfError, Place, Problem};

/// Reads one file from its start to its end.
pub(super) struct Scanner<'a> {
    rest: &'a str,
    line: u32,
    file: Arc<str>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, file: &str) -> Self {
        // A byte order mark is no part of the first key.
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest, line: 1, file: Arc::from(file) }
    }

    /// Where the next character stands.
    pub(super) fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line }
    }

    pub(super) fn error(&self, problem: Problem) -> ConfError {
        ConfError { place: self.place(), problem }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        self.line += u32::from(next == '\n');
        Some(next)
    }

    /// Takes `wanted` if it is next.
    pub(super) fn take(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.bump();
        }
        is_next
    }

    /// Skips spaces and tabs.
    pub(super) fn skip_spaces(&mut self) {
        self.take_while(|c| c.is_whitespace() && c != '\n');
    }

    /// Skips spaces, line ends, comments and the characters of `separators`.
    pub(super) fn skip_blank(&mut self, separators: &str) {
        loop {
            self.take_while(|c| c.is_whitespace() || separators.contains(c));
            if !self.is_comment() {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// Whether a comment starts here.
    pub(super) fn is_comment(&self) -> bool {
        self.rest.starts_with('#') || self.rest.starts_with("//")
    }

    /// The characters up to the first that is not wanted.
    pub(super) fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_wanted(c)).unwrap_or(self.rest.len());
        self.take_bytes(end)
    }

    fn take_bytes(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        let lines = taken.bytes().filter(|&byte| byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        taken
    }

    /// A string in quotes, if one starts here: escapes mean something in double quotes only.
    pub(super) fn quoted(&mut self) -> Result<Option<String>, ConfError> {
        let Some(quote) = self.peek().filter(|c| "\"'".contains(*c)) else { return Ok(None) };
        let start = self.place();
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => {
                    return Err(ConfError { place: start, problem: Problem::Unclosed("a string") });
                }
                Some(c) if c == quote => return Ok(Some(text)),
                Some('\\') if quote == '"' => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, ConfError> {
        let unknown = self.error(Problem::UnknownEscape);
        match self.bump().ok_or_else(|| unknown.clone())? {
            't' => Ok('\t'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            same @ ('"' | '\\') => Ok(same),
            'x' => {
                let digits = self.rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let byte = digits.filter(u8::is_ascii).ok_or(unknown)?;
                self.take_bytes(2);
                Ok(char::from(byte))
            }
            _ => Err(unknown),
        }
    }

    /// The lines of a `( )` block whose opening bracket is taken, up to a line with nothing but the closing one.
    pub(super) fn block(&mut self) -> Result<String, ConfError> {
        let start = self.place();
        let mut length = 0;
        for line in self.rest.split_inclusive('\n') {
            if length > 0 && line.trim() == ")" {
                let text = self.take_bytes(length).to_owned();
                self.skip_spaces();
                self.take(')');
                return Ok(text);
            }
            length += line.len();
        }
        Err(ConfError { place: start, problem: Problem::Unclosed("a block in ( )") })
    }
}
