//! Cache groups: the groups of a response, by which applications tell caches which responses to invalidate.

use http::header::{HeaderMap, HeaderName};

use super::list;

/// A structured list of strings (RFC 9875 section 2).
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The same for a write: the groups that it makes stale (RFC 9875 section 3).
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Returns the groups that the fields called `name` list: strings of a structured list for the fields of RFC 9875,
/// otherwise words separated by spaces, commas or `|`, as in surrogate keys and cache tags.
pub fn groups(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    if [CACHE_GROUPS, CACHE_GROUP_INVALIDATION].contains(name) {
        return list(headers, name).filter_map(string).map(str::to_owned).collect();
    }
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split([' ', '\t', ',', '|']));
    words.map(|word| word.trim_matches('"')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns a string of a structured list (RFC 9651 section 3.3.3), without its parameters.
fn string(item: &str) -> Option<&str> {
    item.split(';').next()?.trim().strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn groups_are_read_as_each_header_writes_them() {
        let read = |name: &'static str, values: &[&'static str]| {
            let name = HeaderName::from_static(name);
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name.clone(), HeaderValue::from_static(value));
            }
            groups(&headers, &name)
        };
        assert_eq!(read("cache-groups", &["\"a b\";x=1, \"c\"", "\"d\"", "e"]), ["a b", "c", "d"]);
        assert_eq!(read("surrogate-key", &["node:1 node:2", "list"]), ["node:1", "node:2", "list"]);
        assert_eq!(read("x-cache-tags", &["post-1,post-2, home"]), ["post-1", "post-2", "home"]);
        assert_eq!(read("cache-tags", &["ab12|cd34"]), ["ab12", "cd34"]);
        assert!(read("xkey", &[" , "]).is_empty());
    }
}
