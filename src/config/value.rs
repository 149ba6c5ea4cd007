//! Configuration values in the form that users write.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::file::{Audience, AudienceName, LearnWord, SelectedAudience, Shim};

/// Describes a kind of value in messages and in the schema.
pub trait Describe {
    /// The text after "expected …".
    const EXPECTED: &'static str;
    /// An example, for the schema.
    const EXAMPLE: &'static str;
}

/// A value that is written as a string and read by [`FromStr`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parsed<T> {
    /// The parsed value.
    pub value: T,
    /// The text as written.
    pub text: String,
}

impl<T: FromStr> Parsed<T> {
    /// Parses `text`.
    ///
    /// # Errors
    /// Returns the error of `T`.
    pub fn parse(text: &str) -> Result<Self, T::Err> {
        Ok(Self { value: text.parse()?, text: text.to_owned() })
    }
}

impl<T> Serialize for Parsed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, T: FromStr<Err: fmt::Display> + Describe> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display> + Describe> Visitor<'_> for Reader<T> {
            type Value = Parsed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Parsed<T>, E> {
                Parsed::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Reader(PhantomData))
    }
}

impl<T: Describe> JsonSchema for Parsed<T> {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "title": T::EXPECTED, "examples": [T::EXAMPLE] })
    }
}

/// A duration, such as `"250ms"`, `"2s"` or `"10m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes, such as `"64KiB"` or `"8MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Where to listen: an IP address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress(pub SocketAddr);

/// A value that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let read = humantime::parse_duration(text)
            .map_err(|error| ValueError(format!("not a duration ({error}): write \"250ms\", \"2s\" or \"10m\"")))?;
        // A longer duration is a mistake, and could overflow later.
        if read > Duration::from_secs(365 * 86_400) {
            return Err(ValueError("longer than a year".to_owned()));
        }
        Ok(Self(read))
    }
}

/// A fetch interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// As often as the effort allows.
    Auto,
    /// A fixed interval.
    At(Period),
}

impl FromStr for Every {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::At) }
    }
}

/// A fraction, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number {
            Some(number) if (0.01..=100.0).contains(&number) => Ok(Self((number * 10_000.0).round() as u32)),
            _ => Err(ValueError("not a share between 0.01% and 100%: write \"1%\"".to_owned())),
        }
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| ValueError("not a size: write \"64KiB\" or \"8MiB\"".to_owned()))
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(port) = text.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok()) {
            return Err(ValueError(format!(
                "an address is needed: write \"0.0.0.0:{port}\" for all of IPv4, \"[::]:{port}\" for IPv6 too"
            )));
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| Cow::Borrowed(text), |port| Cow::Owned(format!("127.0.0.1:{port}")));
        text.parse()
            .map(Self)
            .map_err(|_| ValueError("not an address and a port: write \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned()))
    }
}

macro_rules! expected {
    ($($type:ty: $expected:literal, $example:literal;)*) => {
        $(impl Describe for $type {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;
        })*
    };
}

expected! {
    Period: "a duration such as \"250ms\", \"2s\" or \"10m\"", "2s";
    Every: "\"auto\" or a duration such as \"250ms\" or \"2s\"", "auto";
    Percent: "a share such as \"1%\"", "1%";
    Size: "a size such as \"64KiB\" or \"8MiB\"", "8MiB";
    ListenAddress: "an address and a port such as \"127.0.0.1:8080\"", "127.0.0.1:8080";
    crate::upstream::Address: "a URL such as \"http://127.0.0.1:8000\", or \"unix:/run/app.sock\"", "http://127.0.0.1:8000";
    crate::route::Pattern: "a path such as \"/api/messages\", \"/api/*\" or \"/wiki/**\"", "/api/messages";
    crate::route::WritePattern: "a method and a path such as \"POST /api/**\", or \"* /**\"", "POST /api/**";
    crate::normalise::Pointer: "a JSON Pointer such as \"/items/*/age\"", "/items/*/age";
    crate::normalise::Selector: "a CSS selector such as \"#clock\" or \"time@datetime\"", "#clock";
    crate::normalise::TextPattern: "a regular expression such as \"generated at .*\"", "generated at .*";
    crate::telemetry::AccessLogTarget: "\"off\", \"stdout\", \"stderr\" or the absolute path of a file", "/var/log/sungrazer/access.json";
    FieldName: "a header name such as \"accept-language\"", "accept-language";
    MethodName: "a method such as \"GET\"", "GET";
    SitePath: "a path on this site such as \"/api/state\"", "/api/state";
    PathGlob: "a file or a glob such as \"/srv/app/data/*.json\"", "/srv/app/data/*.json";
    Prefix: "a path such as \"/.sungrazer\"", "/.sungrazer";
    Network: "an address or a network such as \"10.0.0.1\" or \"10.0.0.0/8\"", "10.0.0.0/8";
}

/// The name of a request header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(pub http::HeaderName);

impl FromStr for FieldName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name: http::HeaderName = text.parse().map_err(|_| ValueError("not a header name".to_owned()))?;
        if crate::model::fields::is_of_connection(&name) {
            return Err(ValueError(format!(
                "{name:?} belongs to a connection, not to a request: no answer can depend on it"
            )));
        }
        Ok(Self(name))
    }
}

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodName(pub http::Method);

impl FromStr for MethodName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(ValueError(format!("methods are written in capitals: \"{}\"", text.to_ascii_uppercase())));
        }
        http::Method::from_bytes(text.as_bytes()).map(Self).map_err(|_| ValueError("not a method".to_owned()))
    }
}

/// A file, or many.
#[derive(Clone, Debug)]
pub struct PathGlob(pub globset::Glob);

impl FromStr for PathGlob {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError("a path cannot be empty".to_owned()));
        }
        globset::GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map(Self)
            .map_err(|error| ValueError(format!("not a glob: {}", error.kind())))
    }
}

/// One address, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub ipnet::IpNet);

impl FromStr for Network {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let network =
            text.parse::<ipnet::IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
        network.map(Self).map_err(|_| {
            ValueError("not an address and not a network: write \"10.0.0.1\" or \"10.0.0.0/8\"".to_owned())
        })
    }
}

/// Something that can be switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    /// `"off"`.
    Off,
    /// The value when it is on.
    On(T),
}

impl<T: FromStr> FromStr for Switch<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::On) }
    }
}

impl Describe for Switch<Period> {
    const EXPECTED: &'static str = "\"off\" or a duration such as \"25s\"";
    const EXAMPLE: &'static str = "25s";
}

impl Describe for Switch<ListenAddress> {
    const EXPECTED: &'static str = "\"off\" or an address and a port such as \"127.0.0.1:9090\"";
    const EXAMPLE: &'static str = "127.0.0.1:9090";
}

/// Path and query of something on this site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePath(pub String);

impl FromStr for SitePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match crate::route::Target::parse(text) {
            Some(target) if crate::route::is_unambiguous(target.path) && !text.contains('*') => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(ValueError("write the path of one URL on this site, such as \"/api/state\"".to_owned())),
        }
    }
}

/// The path below which our own endpoints live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(pub String);

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.starts_with('/') {
            return Err(ValueError(format!("a path begins with \"/\": write \"/{text}\"")));
        }
        if text == "/" {
            return Err(ValueError("the whole site would be ours: write a path that the application does not have, such as \"/.sungrazer\"".to_owned()));
        }
        if text.ends_with('/')
            || !crate::route::is_unambiguous(text)
            || text.contains(['%', '?', '#', '*', '"', '<', '>', ' '])
        {
            return Err(ValueError(
                "write plain segments, without a slash at the end, such as \"/.sungrazer\"".to_owned(),
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// One address, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<Parsed<T>>);

impl<T> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: FromStr<Err: fmt::Display> + Describe> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: FromStr<Err: fmt::Display> + Describe> Visitor<'de> for Reader<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of them", T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                Ok(OneOrMany(vec![Parsed::parse(text).map_err(E::custom)?]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                if addresses.is_empty() {
                    Err(de::Error::custom("an empty list: name at least one"))
                } else {
                    Ok(OneOrMany(addresses))
                }
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

impl<T: Describe> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = Parsed::<T>::json_schema(generator);
        json_schema!({ "title": format!("{}, or a list of them", T::EXPECTED), "examples": [T::EXAMPLE], "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"credentials\", \"public\", or { cookies = [..], headers = [..] }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Audience, E> {
                match text {
                    "credentials" => Ok(Audience::Named(AudienceName::Credentials)),
                    "public" => Ok(Audience::Named(AudienceName::Public)),
                    other => Err(E::custom(format_args!(
                        "unknown variant `{other}`, expected `credentials`, `public` or {{ cookies = [..], headers = [..] }}"
                    ))),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Audience, A::Error> {
                SelectedAudience::deserialize(de::value::MapAccessDeserializer::new(map)).map(Audience::Selected)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Shim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Shim;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"learn\"")
            }

            fn visit_bool<E: de::Error>(self, given: bool) -> Result<Shim, E> {
                Ok(Shim::Given(given))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Shim, E> {
                match text {
                    "learn" => Ok(Shim::Learn(LearnWord::Learn)),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
