//! From the text of a file, and of those it includes, to its tree.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::scan::Scanner;
use super::{ConfError, Entry, Kind, Map, Place, Problem, Value};

/// Maps and lists inside each other: the parser calls itself for each, and real files need six.
const DEPTH_MAX: usize = 32;
/// Files that include files: more is a circle.
const INCLUDE_DEPTH_MAX: usize = 10;
/// Text of all files, and of values that variables repeat, so that no few lines fill the memory.
pub const SIZE_BYTES_MAX: usize = 4 << 20;
/// What a value counts beside its text.
const VALUE_BYTES: usize = 16;
/// How hashes of passwords start; they are no variables.
const BCRYPT_PREFIXES: [&str; 3] = ["$2a$", "$2b$", "$2y$"];

/// What a configuration takes from around it.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// The text of a file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads `file` and all that it includes.
pub fn parse(file: &Path, outside: Outside<'_>) -> Result<Map, ConfError> {
    let mut parser = Parser { outside, scopes: vec![Map::default()], size_bytes: 0 };
    let nowhere = Place { file: Arc::from(file.to_string_lossy()), line: 0 };
    parser.file(file, &nowhere, 0)?;
    Ok(parser.scopes.pop().unwrap_or_default())
}

/// A whole number as [`Value::integer`] reads it.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits_end = text
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_digit() || at == 0 && "+-".contains(c)))
        .map_or(text.len(), |(at, _)| at);
    let (digits, suffix) = text.split_at(digits_end);
    let suffix = suffix.to_ascii_lowercase();
    let unit = match suffix.chars().next() {
        None => 1,
        Some(letter) => {
            let power = u32::try_from("kmgtpe".find(letter)?).ok()? + 1;
            match suffix.get(1..)? {
                "" => 1000_i64.checked_pow(power)?,
                "b" | "i" | "ib" => 1024_i64.checked_pow(power)?,
                _ => return None,
            }
        }
    };
    digits.parse::<i64>().ok()?.checked_mul(unit)
}

/// Reads the files; holds the maps that are open.
struct Parser<'a> {
    outside: Outside<'a>,
    /// The open maps, the innermost last: where variables are looked up. Never empty.
    scopes: Vec<Map>,
    /// What counts against [`SIZE_BYTES_MAX`].
    size_bytes: usize,
}

impl Parser<'_> {
    /// Reads the entries of `file` into the innermost open map.
    fn file(&mut self, file: &Path, from: &Place, include_depth: usize) -> Result<(), ConfError> {
        let error = |problem| ConfError { place: from.clone(), problem };
        if include_depth > INCLUDE_DEPTH_MAX {
            return Err(error(Problem::TooManyIncludes { max: INCLUDE_DEPTH_MAX }));
        }
        let text = (self.outside.read)(file).map_err(|reason| {
            error(Problem::Unreadable { file: file.to_owned(), reason: reason.to_string() })
        })?;
        self.charge(text.len()).map_err(error)?;
        let mut scanner = Scanner::new(&text, &file.to_string_lossy());
        let mut includes = Includes { file, depth: include_depth };
        scanner.skip_blank(",;");
        let start = scanner.place();
        // JSON puts its entries into brackets.
        let is_bracketed = scanner.take('{');
        self.entries(&mut scanner, &mut includes, is_bracketed.then_some(&start))?;
        if is_bracketed {
            scanner.skip_blank(",;");
            if scanner.peek().is_some() {
                return Err(scanner.error(Problem::Expected("the end of the file")));
            }
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Problem> {
        self.size_bytes = self.size_bytes.saturating_add(bytes);
        if self.size_bytes > SIZE_BYTES_MAX {
            return Err(Problem::TooLarge { max_bytes: SIZE_BYTES_MAX });
        }
        Ok(())
    }

    /// Entries up to the `}` of the map that starts at `opened`, or up to the end of the file.
    fn entries(
        &mut self,
        scanner: &mut Scanner<'_>,
        includes: &mut Includes<'_>,
        opened: Option<&Place>,
    ) -> Result<(), ConfError> {
        loop {
            scanner.skip_blank(",;");
            match (scanner.peek(), opened) {
                (None, None) => return Ok(()),
                (None, Some(start)) => {
                    return Err(ConfError {
                        place: start.clone(),
                        problem: Problem::Unclosed("a map"),
                    });
                }
                (Some('}'), Some(_)) => {
                    scanner.bump();
                    return Ok(());
                }
                (Some('}' | ']'), _) => return Err(scanner.error(Problem::NothingOpen)),
                (Some(_), _) => self.entry(scanner, includes)?,
            }
        }
    }

    fn entry(
        &mut self,
        scanner: &mut Scanner<'_>,
        includes: &mut Includes<'_>,
    ) -> Result<(), ConfError> {
        let place = scanner.place();
        let quoted = scanner.quoted()?;
        let is_quoted = quoted.is_some();
        let key = quoted.unwrap_or_else(|| {
            scanner.take_while(|c| !c.is_whitespace() && !":={}[](),;".contains(c)).to_owned()
        });
        if key.is_empty() && !is_quoted {
            return Err(scanner.error(Problem::Expected("a key")));
        }
        scanner.skip_spaces();
        let is_separated = scanner.take(':') || scanner.take('=');
        scanner.skip_spaces();
        if key.eq_ignore_ascii_case("include") && !is_quoted && !is_separated {
            let name = self.scalar(scanner)?;
            let file = includes.file.parent().unwrap_or(Path::new("")).join(name);
            self.file(&file, &place, includes.depth + 1)?;
        } else {
            let value = self.value_after_key(scanner, includes)?;
            let scope = self.scopes.last_mut().expect("never empty");
            scope.entries.push(Entry { key, place, value });
        }
        end_of_value(scanner)
    }

    /// The value of a key: a bracket may stand on a later line, anything else may not.
    fn value_after_key(
        &mut self,
        scanner: &mut Scanner<'_>,
        includes: &mut Includes<'_>,
    ) -> Result<Value, ConfError> {
        let key_ended = scanner.error(Problem::NoValue);
        scanner.skip_blank("");
        let is_later_line = scanner.place() != key_ended.place;
        match scanner.peek() {
            Some('{' | '[' | '(') => self.value(scanner, includes),
            None => Err(key_ended),
            Some(_) if is_later_line => Err(key_ended),
            Some(_) => self.value(scanner, includes),
        }
    }

    fn value(
        &mut self,
        scanner: &mut Scanner<'_>,
        includes: &mut Includes<'_>,
    ) -> Result<Value, ConfError> {
        let place = scanner.place();
        self.charge(VALUE_BYTES).map_err(|problem| scanner.error(problem))?;
        if matches!(scanner.peek(), Some('{' | '[')) && self.scopes.len() > DEPTH_MAX {
            return Err(scanner.error(Problem::TooDeep { max: DEPTH_MAX }));
        }
        let kind = if scanner.take('{') {
            self.scopes.push(Map::default());
            self.entries(scanner, includes, Some(&place))?;
            Kind::Map(self.scopes.pop().unwrap_or_default())
        } else if scanner.take('[') {
            // Stays empty: it counts for the depth.
            self.scopes.push(Map::default());
            let values = self.list(scanner, includes, &place)?;
            self.scopes.pop();
            Kind::List(values)
        } else if scanner.take('(') {
            Kind::Scalar(scanner.block()?)
        } else if scanner.peek() == Some('$') {
            let text = self.scalar(scanner)?;
            if BCRYPT_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
                Kind::Scalar(text)
            } else {
                self.variable(&text[1..]).map_err(|problem| scanner.error(problem))?
            }
        } else {
            Kind::Scalar(self.scalar(scanner)?)
        };
        Ok(Value { place, kind })
    }

    fn list(
        &mut self,
        scanner: &mut Scanner<'_>,
        includes: &mut Includes<'_>,
        opened: &Place,
    ) -> Result<Vec<Value>, ConfError> {
        let mut values = Vec::new();
        loop {
            scanner.skip_blank(",;");
            match scanner.peek() {
                None => {
                    let problem = Problem::Unclosed("a list");
                    return Err(ConfError { place: opened.clone(), problem });
                }
                Some(']') => {
                    scanner.bump();
                    return Ok(values);
                }
                Some('}') => return Err(scanner.error(Problem::NothingOpen)),
                Some(_) => values.push(self.value(scanner, includes)?),
            }
            end_of_value(scanner)?;
        }
    }

    /// A string, or a word up to a blank, a separator or a closing bracket.
    fn scalar(&mut self, scanner: &mut Scanner<'_>) -> Result<String, ConfError> {
        if let Some(text) = scanner.quoted()? {
            return Ok(text);
        }
        let word = scanner.take_while(|c| !c.is_whitespace() && !",;]}".contains(c));
        if word.is_empty() {
            return Err(scanner.error(Problem::NoValue));
        }
        Ok(word.to_owned())
    }

    /// What the nearest open map, or else the environment, says of `name`.
    fn variable(&mut self, name: &str) -> Result<Kind, Problem> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        let kind = match found {
            Some(entry) => entry.value.kind.clone(),
            None => (self.outside.variable)(name)
                .map(Kind::Scalar)
                .ok_or_else(|| Problem::UnknownVariable(name.to_owned()))?,
        };
        self.charge(size_bytes(&kind))?;
        Ok(kind)
    }
}

/// The file whose entries are read, for the files that it includes.
struct Includes<'a> {
    file: &'a Path,
    depth: usize,
}

/// What a copy of `kind` counts.
fn size_bytes(kind: &Kind) -> usize {
    let inner: usize = match kind {
        Kind::Scalar(text) => text.len(),
        Kind::List(values) => values.iter().map(|value| size_bytes(&value.kind)).sum(),
        Kind::Map(map) => {
            let of_entry = |entry: &Entry| entry.key.len() + size_bytes(&entry.value.kind);
            map.entries.iter().map(of_entry).sum()
        }
    };
    VALUE_BYTES + inner
}

/// Two values on a line have something between them.
fn end_of_value(scanner: &mut Scanner<'_>) -> Result<(), ConfError> {
    scanner.skip_spaces();
    match scanner.peek() {
        None | Some('\n' | ',' | ';' | '}' | ']') => Ok(()),
        Some(_) if scanner.is_comment() => Ok(()),
        Some(_) => Err(scanner.error(Problem::NoSeparator)),
    }
}
