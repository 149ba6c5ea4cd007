//! CSS selectors (Selectors Level 4), limited to the parts that depend on the text alone.

use std::str::FromStr;

/// A list of selectors, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selectors(pub(super) Vec<Complex>);

/// Compounds, from the outermost to the subject of the selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complex(pub(super) Vec<(Combinator, Compound)>);

/// The relation of a compound's element to the element of the previous compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Combinator {
    /// Any descendant. For the first compound: any element.
    Descendant,
    Child,
    /// The next sibling.
    Next,
    /// Any later sibling.
    Later,
}

/// The conditions on one element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compound(pub(super) Vec<Test>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Name(String),
    Id(String),
    Class(String),
    Attribute {
        name: String,
        operator: Operator,
        value: String,
        any_case: bool,
    },
    /// Its position is `a * n + b` for some n from 0, counted among all siblings or among siblings of the same name.
    Nth {
        a: i32,
        b: i32,
        of_type: bool,
    },
    Not(Vec<Compound>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Exists,
    Equals,
    Word,
    Dash,
    Prefix,
    Suffix,
    Substring,
}

/// The maximum number of compounds in one selector. Match state is kept in one word.
const MAX_COMPOUNDS: usize = 32;

/// The text is not a supported selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(String);

fn error<T>(text: impl Into<String>) -> Result<T, ParseSelectorError> {
    Err(ParseSelectorError(text.into()))
}

impl FromStr for Selectors {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parser = Parser { rest: text };
        let mut list = vec![parser.complex()?];
        while parser.eat(',') {
            list.push(parser.complex()?);
        }
        parser.end()?;
        Ok(Self(list))
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Skips white space; returns whether there was any.
    fn space(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start();
        self.rest.len() < before
    }

    fn end(&self) -> Result<(), ParseSelectorError> {
        if self.rest.is_empty() { Ok(()) } else { error(format!("{:?} cannot stand here", self.rest)) }
    }

    fn complex(&mut self) -> Result<Complex, ParseSelectorError> {
        self.space();
        let mut parts = vec![(Combinator::Descendant, self.compound()?)];
        loop {
            let space = self.space();
            let combinator = match self.peek() {
                Some('>') => Combinator::Child,
                Some('+') => Combinator::Next,
                Some('~') => Combinator::Later,
                Some(',') | None => break,
                Some(_) if space => Combinator::Descendant,
                Some(_) => break,
            };
            if combinator != Combinator::Descendant {
                self.rest = &self.rest[1..];
                self.space();
            }
            parts.push((combinator, self.compound()?));
        }
        if parts.len() > MAX_COMPOUNDS {
            return error(format!(
                "a selector of more than {MAX_COMPOUNDS} parts: an id or a class near its end will do"
            ));
        }
        Ok(Complex(parts))
    }

    fn compound(&mut self) -> Result<Compound, ParseSelectorError> {
        let mut tests = Vec::new();
        let any = self.eat('*');
        if (any && self.eat('|')) || (!any && self.at_name()) {
            let mut name = self.name("an element")?;
            // With a prefix, the name is compared as written in the tag.
            if self.eat('|') {
                name = format!("{name}:{}", self.name("an element")?);
            }
            tests.push(Test::Name(name));
        }
        while let Some(c) = self.peek() {
            match c {
                '#' => {
                    self.eat('#');
                    tests.push(Test::Id(self.name("an id")?));
                }
                '.' => {
                    self.eat('.');
                    tests.push(Test::Class(self.name("a class")?));
                }
                '[' => tests.push(self.attribute()?),
                ':' => tests.push(self.pseudo_class()?),
                _ => break,
            }
        }
        match self.peek() {
            _ if any || !tests.is_empty() => Ok(Compound(tests)),
            Some(c) => {
                error(format!("{c:?} cannot begin a selector: write a name, \"#id\", \".class\" or \"[attribute]\""))
            }
            None => error("a selector is missing: write a name, \"#id\", \".class\" or \"[attribute]\""),
        }
    }

    fn attribute(&mut self) -> Result<Test, ParseSelectorError> {
        self.eat('[');
        self.space();
        let name = self.name("an attribute")?.to_ascii_lowercase();
        self.space();
        if self.eat(']') {
            return Ok(Test::Attribute { name, operator: Operator::Exists, value: String::new(), any_case: false });
        }
        let operator = match self.peek() {
            Some('=') => Operator::Equals,
            Some('~') => Operator::Word,
            Some('|') => Operator::Dash,
            Some('^') => Operator::Prefix,
            Some('$') => Operator::Suffix,
            Some('*') => Operator::Substring,
            _ => return error("behind the name of an attribute belongs \"]\" or \"=\""),
        };
        if operator != Operator::Equals {
            self.rest = &self.rest[1..];
        }
        if !self.eat('=') {
            return error("behind the name of an attribute belongs \"]\" or \"=\"");
        }
        self.space();
        let value = match self.peek() {
            Some(quote @ ('"' | '\'')) => self.string(quote)?,
            _ => self.name("a value")?,
        };
        self.space();
        let any_case = self.eat('i') || self.eat('I');
        if !any_case && !self.eat('s') {
            self.eat('S');
        }
        self.space();
        if self.eat(']') {
            Ok(Test::Attribute { name, operator, value, any_case })
        } else {
            error("a \"[\" is not closed by \"]\"")
        }
    }

    fn string(&mut self, quote: char) -> Result<String, ParseSelectorError> {
        self.eat(quote);
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return error("a quote is not closed"),
                Some('\\') => text.push(self.escape()?),
                Some(c) => {
                    self.eat(c);
                    if c == quote {
                        return Ok(text);
                    }
                    text.push(c);
                }
            }
        }
    }

    fn pseudo_class(&mut self) -> Result<Test, ParseSelectorError> {
        self.eat(':');
        if self.peek() == Some(':') {
            return error("pseudo-elements are made by browsers: nothing of them stands in the text");
        }
        let name = self.name("a pseudo-class")?.to_ascii_lowercase();
        let first = |of_type| Ok(Test::Nth { a: 0, b: 1, of_type });
        match name.as_str() {
            "first-child" => first(false),
            "first-of-type" => first(true),
            "nth-child" | "nth-of-type" | "not" if !self.eat('(') => error(format!("\":{name}\" needs \"(…)\"")),
            "nth-child" | "nth-of-type" => {
                let Some((inside, rest)) = self.rest.split_once(')') else {
                    return error("a \"(\" is not closed by \")\"");
                };
                self.rest = rest;
                let (a, b) = nth(inside)?;
                Ok(Test::Nth { a, b, of_type: name == "nth-of-type" })
            }
            "not" => {
                let mut compounds = Vec::new();
                loop {
                    self.space();
                    if self.rest.starts_with(":not") {
                        return error("\":not(…)\" cannot be put into another");
                    }
                    compounds.push(self.compound()?);
                    self.space();
                    if !self.eat(',') {
                        break;
                    }
                }
                if self.eat(')') {
                    Ok(Test::Not(compounds))
                } else {
                    error("inside \":not(…)\" belong compounds, without combinators")
                }
            }
            _ => error(format!(
                "\":{name}\" cannot be used here: there is :first-child, :first-of-type, :nth-child(), :nth-of-type() and :not()"
            )),
        }
    }

    fn at_name(&self) -> bool {
        self.peek().is_some_and(|c| is_name(c) && !c.is_ascii_digit() || c == '\\')
    }

    fn name(&mut self, what: &str) -> Result<String, ParseSelectorError> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if is_name(c) {
                self.eat(c);
                name.push(c);
            } else if c == '\\' {
                name.push(self.escape()?);
            } else {
                break;
            }
        }
        if name.is_empty() { error(format!("the name of {what} is missing")) } else { Ok(name) }
    }

    /// Reads an escape: `\` and a character, or `\` and up to six hexadecimal digits followed by optional white space.
    fn escape(&mut self) -> Result<char, ParseSelectorError> {
        self.eat('\\');
        let digits = self.rest.chars().take(6).take_while(char::is_ascii_hexdigit).count();
        if digits == 0 {
            let Some(c) = self.peek() else { return error("nothing stands behind \"\\\"") };
            self.eat(c);
            return Ok(c);
        }
        let code = u32::from_str_radix(&self.rest[..digits], 16).unwrap_or_default();
        self.rest = &self.rest[digits..];
        if self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.rest = &self.rest[1..];
        }
        Ok(char::from_u32(code).filter(|c| *c != '\0').unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii()
}

/// Reads `odd`, `even`, `3`, `2n` or `-n+3`.
fn nth(text: &str) -> Result<(i32, i32), ParseSelectorError> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let wrong = || ParseSelectorError(format!("({text}) is no place: write a number, \"odd\", \"even\" or \"2n+1\""));
    let number = |text: &str| text.strip_prefix('+').unwrap_or(text).parse::<i32>().map_err(|_| wrong());
    match (text.as_str(), text.split_once('n')) {
        ("odd", _) => Ok((2, 1)),
        ("even", _) => Ok((2, 0)),
        (_, None) => Ok((0, number(&text)?)),
        (_, Some((a, b))) => {
            let a = match a {
                "" | "+" => 1,
                "-" => -1,
                a => number(a)?,
            };
            Ok((a, if b.is_empty() { 0 } else { number(b)? }))
        }
    }
}
