use proptest::prelude::*;

use super::*;

const TAG: &str = "<script src=\"/.sungrazer/shim.js?HASH\"></script>";

fn tag() -> Tag {
    Tag { path: "/.sungrazer/shim.js".into(), hash: "HASH".into(), ..Tag::default() }
}

fn inject_with(tag: Tag, html: &[u8], piece: usize) -> Vec<u8> {
    let mut injector = Injector::new(tag);
    let mut out: Vec<u8> = html.chunks(piece).flat_map(|piece| injector.push(piece)).collect();
    out.extend(injector.finish());
    out
}

fn inject(html: &str) -> String {
    let whole = inject_with(tag(), html.as_bytes(), usize::MAX);
    // The result does not depend on how the page is divided.
    for piece in [1, 2, 7] {
        assert!(inject_with(tag(), html.as_bytes(), piece) == whole, "in pieces of {piece}: {html}");
    }
    String::from_utf8(whole).expect("UTF-8")
}

#[test]
fn the_tag_comes_behind_the_charset_and_before_what_could_run() {
    for page in [
        "<!doctype html><html><head><meta charset=utf-8>@<script src=a></script></head><body>x",
        "<!doctype html><html><head><title>t</title><meta charset=utf-8>@<link rel=stylesheet href=a></head>",
        "<html><head><meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\">@<style></style>",
        "<html><head><meta name=viewport content=x>@<script>a</script><meta charset=utf-8></head>",
        "<html><head>@<base href=\"http://other/\"><meta charset=utf-8></head>",
        "<html><head><title>t</title></head>@<body><p>x</p></body></html>",
        "<html><head>@<meta http-equiv=content-security-policy content=\"script-src 'none'\"><title>t</title></head>",
        "<html><title>t</title>@<body>x",
        "<html>@<body>x</body></html>",
        "@<h1>x</h1>",
        "some text @<p>x</p><p>y",
        "<html><head></head>@<frameset><frame src=a></frameset></html>",
        "<!-- <script> --><html><head><title><script></title>@<script>\"</head>\"</script></head>",
        "<html><head>@<noscript><meta charset=utf-8></noscript></head><body></body></html>",
    ] {
        assert_eq!(inject(&page.replace('@', "")), page.replace('@', TAG), "{page}");
    }
}

#[test]
fn what_is_no_page_is_left_alone() {
    for page in [
        "",
        "just text",
        "OK 5 < 6",
        "{\"a\":[1,2]}",
        " \r\n[\"<b>\", \"<body>\"]",
        "\u{feff}{\"html\":\"<p>x</p>\"}",
        "<title>t hello",
        // There is no script, and no place for the tag.
        "\u{feff} <title>t</title>just text",
        "<!-- <html> ",
    ] {
        assert_eq!(inject(page), page);
    }
}

#[test]
fn a_fragment_in_a_frame_is_no_page() {
    let framed = |page: &str| {
        let out = inject_with(Tag { framed: true, ..tag() }, page.as_bytes(), 3);
        String::from_utf8(out).expect("UTF-8")
    };
    for fragment in
        ["<div>one</div><div>two</div>", "OK<br>3 rows", "<meta name=a><textarea>{}</textarea>", "<script>1</script>"]
    {
        assert_eq!(framed(fragment), fragment);
        assert_ne!(inject(fragment), fragment);
    }
    for page in [
        "<!doctype html><meta charset=utf-8>@<p>x",
        "<title>t</title>@<p>x",
        "@<body>x",
        "<html>@<p>x",
        "<head>@<script></script>",
    ] {
        assert_eq!(framed(&page.replace('@', "")), page.replace('@', TAG), "{page}");
    }
}

#[test]
fn a_page_that_has_it_keeps_the_one() {
    let page = inject("<html><head><title>t</title><script>a</script></head><body></body></html>");
    assert_eq!(inject(&page), page);
}

#[test]
fn bytes_of_any_encoding_pass_as_they_are() {
    let mut page = b"<html><head><title>\xe4\xf6\x80\xff</title>".to_vec();
    let rest = b"<body data-x=\"\x81\x5c\"><script>'\xe9\xfe'</script>\x00\xff<p\xe9 a\xea=\xe8></body>";
    let expected = [&page[..], TAG.as_bytes(), rest].concat();
    page.extend_from_slice(rest);
    for piece in [1, 3, usize::MAX] {
        assert!(inject_with(tag(), &page, piece) == expected);
    }
    let utf16: Vec<u8> = "\u{feff}<html><head><script>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(inject_with(tag(), &utf16, 5) == utf16);
}

#[test]
fn what_the_page_is_told_is_escaped() {
    let tag = Tag { nonce: Some("a\"b".into()), data: vec![("accept", "<&>\u{e9}".into())], ..tag() };
    assert_eq!(
        String::from_utf8(inject_with(tag, b"<body>", 9)).expect("UTF-8"),
        "<script src=\"/.sungrazer/shim.js?HASH\" nonce=\"a&quot;b\" data-accept=\"&lt;&amp;&gt;&#233;\"></script><body>"
    );
}

#[test]
fn the_pages_own_refresh_stays_where_it_is() {
    for page in [
        "<head><meta http-equiv=Refresh content=5><meta charset=utf-8>@<title>t</title></head>@",
        "<head><meta charset=utf-8>@<meta http-equiv=refresh content='5;url=/page'><body>",
        "<head><meta http-equiv=refresh content=5>@<body>",
    ] {
        let (before, rest) = page.split_once('@').expect("a place");
        let rest = rest.replace('@', "");
        assert_eq!(inject(&format!("{before}{rest}")), format!("{before}{TAG}{rest}"));
    }
}

#[test]
fn a_policy_may_demand_the_digest() {
    let tag = Tag { integrity: Some("sha256-x/+=".into()), ..tag() };
    assert_eq!(
        String::from_utf8(inject_with(tag, b"<body>", 9)).expect("UTF-8"),
        "<script src=\"/.sungrazer/shim.js?HASH\" integrity=\"sha256-x/+=\" crossorigin=\"anonymous\"></script><body>"
    );
}

#[test]
fn xml_is_given_the_tag_inside_of_its_root() {
    let xml = |page: &str| {
        let mut injector = Injector::new(Tag { xml: true, ..tag() });
        let mut out = injector.push(page.as_bytes());
        out.extend(injector.finish());
        String::from_utf8(out).expect("UTF-8")
    };
    assert_eq!(
        xml("<html xmlns='http://www.w3.org/1999/xhtml'><title/>"),
        "<html xmlns='http://www.w3.org/1999/xhtml'><title/>"
    );
    let root = "<html xmlns=\"http://www.w3.org/1999/xhtml\">";
    assert_eq!(xml(&format!("{root}<body/></html>")), format!("{root}{TAG}<body/></html>"));
    let root = "<?xml version=\"1.0\"?><h:html xmlns:h='http://www.w3.org/1999/xhtml'><h:head>";
    let rest = "<h:title>t</h:title></h:head><h:body/></h:html>";
    let tag = "<h:script src=\"/.sungrazer/shim.js?HASH\"></h:script>";
    assert_eq!(xml(&format!("{root}{rest}")), format!("{root}{tag}{rest}"));
    let root = "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head/>";
    assert_eq!(xml(&format!("{root}<body/></html>")), format!("{root}{TAG}<body/></html>"));
    for foreign in [
        "<html><body/></html>",
        "<h:html xmlns='http://www.w3.org/1999/xhtml'><body/></h:html>",
        "<svg xmlns=\"http://www.w3.org/2000/svg\"><title>s</title><html xmlns='http://www.w3.org/1999/xhtml'><body/></html></svg>",
        "<feed xmlns=\"http://www.w3.org/2005/Atom\"><head>x</head></feed>",
        "<ahtml xmlns='http://www.w3.org/1999/xhtml'><body/></ahtml>",
    ] {
        assert_eq!(xml(foreign), foreign);
    }
}

#[test]
fn policies_in_markup_are_reported() {
    let mut injector = Injector::new(tag());
    injector.push(b"<head><meta http-equiv=Content-Security-Policy content=\"worker-src 'none'\"><body>");
    assert_eq!(injector.take_policies(), ["worker-src 'none'"]);
}

#[test]
fn a_huge_page_is_not_kept() {
    let mut injector = Injector::new(tag());
    assert!(!injector.push(b"<html><head><title>t</title><body>").is_empty());
    let piece = "<p>text</p>".repeat(1000);
    for _ in 0..100 {
        assert!(injector.push(piece.as_bytes()).len() + 64 >= piece.len());
    }
    // An endless tag is given up on, and none of it is lost.
    let mut injector = Injector::new(tag());
    let mut out = injector.push(b"<html><head><link href=\"");
    let endless = "x".repeat(100_000);
    for _ in 0..30 {
        out.extend(injector.push(endless.as_bytes()));
    }
    out.extend(injector.finish());
    assert_eq!(out.len(), "<html><head><link href=\"".len() + 3_000_000);
}

proptest! {
    /// For any page divided in any way, the output equals the input except for the tag.
    #[test]
    fn nothing_is_lost(
        parts in prop::collection::vec(prop_oneof![
            "[a-z<>/=\"' !-]{0,12}",
            prop::sample::select(&["<head>", "<body>", "<title>", "</title>", "<script>", "</script>", "<!--", "-->", "<meta charset=x>", "<noscript>", "</noscript>", "<p>", "<base>", "<html>", "<svg>", "<select>", "<xmp>", "<![CDATA["][..]).prop_map(str::to_owned),
        ], 0..20),
        piece in 1usize..9,
    ) {
        let page = parts.concat();
        let out = inject_with(tag(), page.as_bytes(), piece);
        let text = String::from_utf8(out.clone()).unwrap();
        prop_assert_eq!(text.replacen(TAG, "", 1), page.clone());
        prop_assert_eq!(out, inject_with(tag(), page.as_bytes(), usize::MAX));
    }
}
