//! Implied end tags and void elements of HTML (HTML Living Standard, sections 13.1.2 and 13.2.6).

/// The effect of an element's name on the elements around it: a set of the bits below. Names without effect have no
/// bits.
pub(super) type Tag = u64;

const P: Tag = 1;
const LI: Tag = 1 << 1;
const LIST: Tag = 1 << 2;
const DT: Tag = 1 << 3;
const DL: Tag = 1 << 4;
const TD: Tag = 1 << 5;
const TR: Tag = 1 << 6;
const GROUP: Tag = 1 << 7;
const COLUMNS: Tag = 1 << 8;
const CAPTION: Tag = 1 << 9;
const TABLE: Tag = 1 << 10;
const OPTION: Tag = 1 << 11;
const OPTGROUP: Tag = 1 << 12;
const SELECT: Tag = 1 << 13;
const RT: Tag = 1 << 14;
const RUBY: Tag = 1 << 15;
const HEAD: Tag = 1 << 16;
const BODY: Tag = 1 << 17;
const HTML: Tag = 1 << 18;
const OBJECT: Tag = 1 << 19;
/// Ends an open paragraph.
const BLOCK: Tag = 1 << 20;
/// Has neither content nor an end tag.
const VOID: Tag = 1 << 21;
/// Its content is raw text up to its end tag.
const RAW: Tag = 1 << 22;

/// Elements that end tags of other kinds cannot close across.
const SCOPE: Tag = OBJECT | CAPTION | HTML | TABLE | TD;

/// Returns the bits for `name`, in any case.
pub(super) fn tag(name: &str) -> Tag {
    let mut lower = [0; 10];
    let Some(lower) = lower.get_mut(..name.len()) else { return 0 };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"p" => P | BLOCK,
        b"li" => LI,
        b"ul" | b"ol" | b"menu" | b"dir" => LIST | BLOCK,
        b"dt" | b"dd" => DT,
        b"dl" => DL | BLOCK,
        b"td" | b"th" => TD,
        b"tr" => TR,
        b"tbody" | b"thead" | b"tfoot" => GROUP,
        b"colgroup" => COLUMNS,
        b"caption" => CAPTION,
        b"table" => TABLE | BLOCK,
        b"option" => OPTION,
        b"optgroup" => OPTGROUP,
        b"select" | b"datalist" => SELECT,
        b"rt" | b"rp" => RT,
        b"ruby" => RUBY,
        b"head" => HEAD,
        b"body" => BODY,
        b"html" => HTML,
        b"object" | b"applet" | b"marquee" | b"template" => OBJECT,
        b"hr" => VOID | BLOCK,
        b"area" | b"base" | b"basefont" | b"bgsound" | b"br" | b"col" | b"embed" | b"frame" | b"image" | b"img"
        | b"input" | b"keygen" | b"link" | b"meta" | b"param" | b"source" | b"track" | b"wbr" => VOID,
        b"iframe" | b"noembed" | b"noframes" | b"script" | b"style" | b"textarea" | b"title" | b"xmp" => RAW,
        b"address" | b"article" | b"aside" | b"blockquote" | b"center" | b"details" | b"dialog" | b"div"
        | b"fieldset" | b"figcaption" | b"figure" | b"footer" | b"form" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5"
        | b"h6" | b"header" | b"hgroup" | b"main" | b"nav" | b"pre" | b"search" | b"section" | b"summary" => BLOCK,
        _ => 0,
    }
}

pub(super) fn is_void(tag: Tag) -> bool {
    tag & VOID != 0
}

pub(super) fn is_raw(tag: Tag) -> bool {
    tag & RAW != 0
}

/// Returns which open elements a `tag` closes when it begins, and which elements act as barriers that protect those
/// outside of them.
pub(super) fn ended_by(tag: Tag) -> (Tag, Tag) {
    const CELL_SCOPE: Tag = TABLE | TD | OBJECT;
    match tag {
        _ if tag & BLOCK != 0 => (P, SCOPE),
        TD => (TD | CAPTION | COLUMNS, TR | TABLE | OBJECT),
        TR => (TR | CAPTION | COLUMNS, TABLE | GROUP | OBJECT),
        LI => (LI | P, LIST | CELL_SCOPE),
        DT => (DT | P, DL | CELL_SCOPE),
        OPTION => (OPTION, SELECT | OPTGROUP),
        OPTGROUP => (OPTION | OPTGROUP, SELECT),
        GROUP => (GROUP | CAPTION | COLUMNS | TD | TR, TABLE | OBJECT),
        BODY => (HEAD, HTML),
        RT => (RT, RUBY),
        _ => (0, 0),
    }
}

/// Returns whether the end tag of a `tag` may close an element outside of an open `scope`.
pub(super) fn end_tag_may_close(tag: Tag, scope: Tag) -> bool {
    scope & SCOPE == 0 || tag & (SCOPE | TR | GROUP | BODY) != 0
}
