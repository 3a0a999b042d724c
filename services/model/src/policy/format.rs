//! Text with holes: `"{session}: {data}"`.

/// A checked format. Holes are `{name}`; `{{` and `}}` stand for the braces themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(String),
}

impl Format {
    /// Checks a format against the names its holes may have; the error is a sentence.
    pub fn new(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '{' | '}' if characters.peek() == Some(&character) => {
                    characters.next();
                    literal.push(character);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match characters.next() {
                            Some('}') => break,
                            Some(part) => name.push(part),
                            None => {
                                return Err(format!("`{{{name}` is never closed; write `{{{{` for a brace"));
                            }
                        }
                    }
                    if !known.contains(&name.as_str()) {
                        return Err(format!(
                            "unknown hole `{{{name}}}`; known are {{{}}}",
                            known.join("}, {")
                        ));
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(Piece::Hole(name));
                }
                '}' => return Err("a lone `}`; write `}}` for a brace".to_owned()),
                other => literal.push(other),
            }
        }
        pieces.push(Piece::Text(literal));
        Ok(Self(pieces))
    }

    /// The names of its holes, in order.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Hole(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Fills the holes.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> &'a str) -> String {
        self.0.iter().fold(String::new(), |mut filled, piece| {
            filled.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Hole(name) => value(name),
            });
            filled
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_braces_kept() {
        let format = Format::new("{{{session}}}: {data}", &["session", "data"]).unwrap();
        assert_eq!(
            format.fill(|name| if name == "data" { "{x}" } else { "s1" }),
            "{s1}: {x}"
        );
        assert_eq!(format.holes().collect::<Vec<_>>(), ["session", "data"]);
    }

    #[test]
    fn mistakes_are_sentences() {
        assert!(
            Format::new("{nope}", &["data"])
                .unwrap_err()
                .contains("known are {data}")
        );
        assert!(
            Format::new("{data", &["data"])
                .unwrap_err()
                .contains("never closed")
        );
        assert!(Format::new("data}", &["data"]).is_err());
    }
}
