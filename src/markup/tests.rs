use proptest::prelude::*;

use super::*;

fn html(text: &str) -> Outline<'_> {
    Outline::read(text, Dialect::Html).expect("short")
}

fn xml(text: &str) -> Outline<'_> {
    Outline::read(text, Dialect::Xml).expect("short")
}

/// Formats elements as `name(children…)`, in order.
fn shape(outline: &Outline<'_>) -> String {
    fn below(outline: &Outline<'_>, parent: Option<usize>, out: &mut String) {
        for element in outline.elements().filter(|element| element.parent().map(|p| p.index()) == parent) {
            out.push_str(element.name());
            let before = out.len();
            out.push('(');
            below(outline, Some(element.index()), out);
            if out.len() == before + 1 {
                out.pop();
            } else {
                out.push(')');
            }
            out.push(' ');
        }
        if out.ends_with(' ') {
            out.pop();
        }
    }
    let mut out = String::new();
    below(outline, None, &mut out);
    out
}

fn chosen<'t>(outline: &Outline<'t>, selector: &str) -> Vec<&'t str> {
    let selectors: Selectors = selector.parse().unwrap_or_else(|error| panic!("{selector}: {error}"));
    selectors.select(outline).iter().map(|element| &outline.text()[element.span()]).collect()
}

#[test]
fn end_tags_that_html_leaves_out_are_understood() {
    for (text, expected) in [
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>", "ul(li li(ul(li)) li)"),
        (
            "<table><tr><td>a<td>b<tr><th>c<td><table><tr><td>x</table></table>",
            "table(tr(td td) tr(th td(table(tr(td)))))",
        ),
        ("<table><thead><tr><th>a<tbody><tr><td>b</table>", "table(thead(tr(th)) tbody(tr(td)))"),
        ("<p>a<p>b<div>c</div>", "p p div"),
        ("<dl><dt>a<dd>b<dt>c</dl>", "dl(dt dd dt)"),
        ("<select><option>a<option>b<optgroup><option>c</select>", "select(option option optgroup(option))"),
        ("<html><head><title>a<b></title><body>b", "html(head(title) body)"),
        ("<P>a<BR>b<IMG SRC=x>c</p>d<br/>", "P(BR IMG) br"),
    ] {
        assert_eq!(shape(&html(text)), expected, "{text}");
    }
}

#[test]
fn what_only_looks_like_markup_is_none() {
    for text in ["<!-- <a> -->", "<!--><!-- x --!> <a> -->", "<!DOCTYPE html>", "a < b <3 </", "<?php <a ?"] {
        assert_eq!(shape(&html(text)), "", "{text}");
    }
    assert_eq!(shape(&html("<script>if (a<b) '</scripty>' </SCRIPT ><i>")), "script i");
    assert_eq!(shape(&html("<textarea><b></textarea><style><a></style>")), "textarea style");
    assert_eq!(shape(&xml("<?xml version='1.0'?><a><![CDATA[<b>]]><c/><!-- <d> --></a>")), "a(c)");
}

#[test]
fn stray_end_tags_close_nothing_that_they_should_not() {
    assert_eq!(shape(&html("<div><table><tr><td>a</div></td><td>b</td></table></div><i>")), "div(table(tr(td td))) i");
    assert_eq!(shape(&html("</b><a></c></a><i>")), "a i");
    assert_eq!(shape(&html("<div><b><i></div><u>")), "div(b(i)) u");
}

#[test]
fn attributes_stand_where_they_stand() {
    let text = "<a HREF = \"x>y\" id='i'  checked data-x=1/2 =odd title=>z</a>";
    let outline = html(text);
    let element = outline.elements().next().expect("an element");
    let found: Vec<_> = element
        .attributes()
        .iter()
        .map(|attribute| (&text[attribute.span()], attribute.name(&outline), attribute.value(&outline)))
        .collect();
    assert_eq!(
        found,
        [
            (" HREF = \"x>y\"", "HREF", "x>y"),
            (" id='i'", "id", "i"),
            ("  checked", "checked", ""),
            (" data-x=1/2", "data-x", "1/2"),
            (" =odd", "=odd", ""),
            (" title=", "title", ""),
        ]
    );
    assert_eq!(element.value("href"), Some("x>y"));
    assert_eq!(&text[element.inner()], "z");
}

#[test]
fn selectors_choose() {
    let outline = html(
        "<div id=top class='box red'><p>1</p><p class=red>2<i>3</i></p></div>\
         <table><tr><td>a<td data-t='x-1'>b<td>c<tr><td>d</table><p lang=en-GB>4</p>",
    );
    for (selector, expected) in [
        ("i", &["<i>3</i>"][..]),
        ("#top > .red > i", &["<i>3</i>"]),
        ("div i", &["<i>3</i>"]),
        ("div > i", &[]),
        ("TD:nth-child(3)", &["<td>c"]),
        ("tr:first-child td:nth-child(odd)", &["<td>a", "<td>c"]),
        ("td:nth-child(-n+1)", &["<td>a", "<td>d"]),
        ("tr + tr > td", &["<td>d"]),
        ("div ~ p", &["<p lang=en-GB>4</p>"]),
        ("p:not(.red):not([lang])", &["<p>1</p>"]),
        ("p:not(.red, [lang])", &["<p>1</p>"]),
        ("[data-t^=x], [data-t$='-1'], [data-t*=\"-\"]", &["<td data-t='x-1'>b"]),
        ("[lang|=en]", &["<p lang=en-GB>4</p>"]),
        ("[lang='EN-gb' i]", &["<p lang=en-GB>4</p>"]),
        ("[class~=red]:not(div)", &["<p class=red>2<i>3</i></p>"]),
        ("p:nth-of-type(2)", &["<p class=red>2<i>3</i></p>"]),
        ("p:first-of-type", &["<p>1</p>", "<p lang=en-GB>4</p>"]),
        ("p:nth-of-type(1) ", &["<p>1</p>", "<p lang=en-GB>4</p>"]),
        ("#\\74 op>p:first-child", &["<p>1</p>"]),
    ] {
        assert_eq!(chosen(&outline, selector), expected, "{selector}");
    }
    let feed = xml("<rss><channel><link>u</link><pubDate>1</pubDate><a:link href='x'/></channel></rss>");
    assert_eq!(chosen(&feed, "channel > pubdate"), ["<pubDate>1</pubDate>"]);
    assert_eq!(chosen(&feed, "link"), ["<link>u</link>", "<a:link href='x'/>"]);
    assert_eq!(chosen(&feed, "a|link"), ["<a:link href='x'/>"]);
}

#[test]
fn what_cannot_be_chosen_by_is_refused_with_a_reason() {
    for (selector, reason) in [
        ("", "is missing"),
        ("((", "cannot begin"),
        ("a >", "is missing"),
        ("a,", "is missing"),
        ("a:hover", "cannot be used here"),
        ("a::before", "pseudo-elements"),
        ("a[b", "belongs \"]\""),
        ("a[b=c", "not closed"),
        ("a[b='c]", "quote"),
        ("#", "the name of an id"),
        ("td:nth-child(x)", "is no place"),
        ("td:nth-child", "needs"),
        ("a:not(b c)", "without combinators"),
        ("a)", "cannot stand here"),
    ] {
        let error = selector.parse::<Selectors>().expect_err(selector).to_string();
        assert!(error.contains(reason), "{selector}: {error}");
    }
}

#[test]
fn the_innermost_element_is_found() {
    let text = "<div><p>one <b>two</b></p>three</div>four";
    let outline = html(text);
    for (part, expected) in
        [("two", Some("b")), ("one", Some("p")), ("one <b>t", Some("p")), ("three", Some("div")), ("four", None)]
    {
        let start = text.find(part).expect("it is there");
        let found = outline.innermost(&(start..start + part.len()));
        assert_eq!(found.map(|element| element.name()), expected, "{part}");
    }
}

#[test]
fn depth_costs_neither_stack_nor_time() {
    let deep = "<div>".repeat(50_000) + &"</b>".repeat(50_000) + &"</div>".repeat(50_000);
    for dialect in [Dialect::Html, Dialect::Xml] {
        let outline = Outline::read(&deep, dialect).expect("short");
        assert_eq!(outline.elements().len(), 50_000);
        assert!(chosen(&outline, "div div > div").len() > 200);
    }
}

/// Generates well-formed HTML, which all parsers read alike.
fn tidy() -> impl Strategy<Value = String> {
    let leaf = prop_oneof!["[a-z &;]{0,5}", Just("<br>".to_owned()), Just("<!-- <b> -->".to_owned())];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let attributes = prop::collection::vec(
            prop_oneof![
                "[a-c]".prop_map(|class| format!(" class=\"{class} x\"")),
                "[a-c]".prop_map(|id| format!(" id={id}")),
                "[a-c]{0,2}".prop_map(|value| format!(" data-v='{value}'")),
            ],
            0..2,
        );
        (prop::sample::select(vec!["div", "span", "b", "section"]), attributes, prop::collection::vec(inner, 0..4))
            .prop_map(|(name, attributes, inner)| format!("<{name}{}>{}</{name}>", attributes.concat(), inner.concat()))
    })
}

fn selector() -> impl Strategy<Value = String> {
    let compound = (
        prop::sample::select(vec!["", "*", "div", "span", "b"]),
        prop::collection::vec(
            prop::sample::select(vec![
                ".a",
                ".x",
                "#b",
                "[data-v]",
                "[data-v=a]",
                "[data-v^=b]",
                ":first-child",
                ":nth-child(2n+1)",
                ":nth-of-type(2)",
                ":not(div)",
                ":not(.a)",
            ]),
            0..3,
        ),
    )
        .prop_map(|(name, tests)| format!("{name}{}", tests.concat()))
        .prop_filter("something", |compound| !compound.is_empty());
    prop::collection::vec((prop::sample::select(vec![" ", " > "]), compound), 1..4)
        .prop_map(|parts| parts.into_iter().map(|(combinator, compound)| combinator.to_owned() + &compound).collect())
        .prop_map(|selector: String| selector.trim_start_matches([' ', '>']).to_owned())
}

fn judged_by_lol_html(text: &str, selector: &str) -> Vec<usize> {
    let found = std::cell::RefCell::new(Vec::new());
    let settings =
        lol_html::RewriteStrSettings::new().append_element_content_handler(lol_html::element!(selector, |element| {
            found.borrow_mut().push(element.source_location().bytes().start);
            Ok(())
        }));
    lol_html::rewrite_str(text, settings).expect("it is tidy");
    found.into_inner()
}

proptest! {
    #[test]
    fn on_tidy_html_selectors_mean_what_they_mean_to_others(text in tidy(), selector in selector()) {
        let outline = html(&text);
        let selectors: Selectors = selector.parse().unwrap();
        let ours: Vec<_> = selectors.select(&outline).iter().map(|element| element.span().start).collect();
        prop_assert_eq!(ours, judged_by_lol_html(&text, &selector), "{} in {}", selector, text);
    }

    #[test]
    fn every_text_has_an_outline_whose_parts_are_nested(
        text in "(<[/!?]?[a-dtplisr]{0,3}[ ='\"/]{0,3}[a-c]?>?|-->|[a-z<é]{0,3}|<td>|<li>|<table>|</table>|<script>|</script>){0,40}"
    ) {
        for dialect in [Dialect::Html, Dialect::Xml] {
            let outline = Outline::read(&text, dialect).unwrap();
            for element in outline.elements() {
                let span = element.span();
                prop_assert!(text.get(span.clone()).is_some() && text.get(element.inner()).is_some());
                prop_assert!(element.tag().end <= element.inner().end && element.inner().end <= span.end);
                if let Some(parent) = element.parent() {
                    prop_assert!(parent.inner().start <= span.start && span.end <= parent.inner().end);
                }
                if let Some(previous) = element.previous() {
                    prop_assert!(previous.span().end <= span.start);
                    prop_assert_eq!(previous.nth() + 1, element.nth());
                }
                for attribute in element.attributes() {
                    prop_assert!(text.get(attribute.span()).is_some());
                    prop_assert!(attribute.span().end <= element.tag().end);
                }
            }
        }
    }
}
