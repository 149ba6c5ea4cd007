//! Pages as applications generate them: mostly stable markup, with tables that grow, shrink and are re-sorted, clocks,
//! counters, and tokens in attributes.

use super::*;

/// A row: an identifier, its state, and a number that changes constantly.
type Row = (u16, u8, u32);

#[derive(Clone, Debug)]
struct Page {
    rows: Vec<Row>,
    /// The source of all values that change with time.
    moment: u32,
    /// How the page is laid out: on lines or on one, in lower or upper case, with or without end tags.
    style: u8,
}

const STATES: [&str; 5] = ["queued", "läuft noch", "失敗", "done 😀", "&mdash;"];

impl Page {
    fn html(&self) -> String {
        let (moment, newline) = (self.moment, if self.style & 1 == 0 { "\r\n" } else { "" });
        let close = |name: &str| if self.style & 2 == 0 { format!("</{name}>") } else { String::new() };
        let mut page = format!(
            "<!DOCTYPE html>{newline}<html><head><meta http-equiv=refresh content=5><title>{} jobs</title>{newline}<script>var at={moment},\
             token='{:x}';if(a<b)document.write('<p>');</script></head><body><p id=clock>{}:{:02}:{:02}</p>{newline}<table class=jobs>",
            self.rows.len(),
            u64::from(moment) * 0x9e37_79b9_7f4a,
            moment / 3600,
            moment / 60 % 60,
            moment % 60
        );
        for (id, state, number) in &self.rows {
            let state = STATES[usize::from(*state) % STATES.len()];
            let (cell, end) = (close("td"), close("tr"));
            page += &format!(
                "{newline}<tr class=r{}><td><a href=\"/job/{id}?t={moment}\">job {id}</a>{cell}<td>{state}{cell}<td title='{number} B'>{}{cell}{end}",
                id % 2,
                number / 7
            );
        }
        page += &format!("{newline}</table><!-- {moment} ms --><p>up {} s</body></html>{newline}", moment / 3);
        if self.style & 4 == 0 { page } else { page.replace("<td", "<TD").replace("<tr", "<TR") }
    }

    fn change(&mut self, what: u8, at: usize, row: Row) {
        self.moment += u32::from(row.1) % 90;
        let len = self.rows.len();
        match what % 6 {
            0 => self.rows.insert(at % (len + 1), row),
            _ if len == 0 => {}
            1 => drop(self.rows.remove(at % len)),
            2 => self.rows[at % len].1 = row.1,
            3 => self.rows.iter_mut().for_each(|known| known.2 = known.2.wrapping_add(row.2 % 9)),
            4 => self.rows.sort_unstable_by_key(|known| known.2),
            _ => self.rows.rotate_left(at % len),
        }
    }
}

/// Generates successive responses of one application.
fn history() -> impl Strategy<Value = Vec<String>> {
    let rows = || prop::collection::vec(any::<Row>(), 0..25);
    let changes = prop::collection::vec((any::<u8>(), any::<usize>(), any::<Row>()), 1..8);
    (rows(), changes, 0u32..80_000, any::<u8>()).prop_map(|(rows, changes, moment, style)| {
        let mut page = Page { rows, moment, style };
        let mut history = vec![page.html()];
        for (what, at, row) in changes {
            page.change(what, at, row);
            history.push(page.html());
        }
        history
    })
}

proptest! {
    #[test]
    fn splices_lead_along_the_history_of_a_page(history in history()) {
        let mut held = history[0].clone();
        for pair in history.windows(2) {
            if pair[0] != pair[1] {
                prop_assert!(check(DeltaKind::Splice, &pair[0], &pair[1]).is_some());
            }
            held = match delta(DeltaKind::Splice, &held, &pair[1]) {
                Ok(patch) => {
                    prop_assert!(patch.len() < pair[1].len());
                    let patch = Json::read(std::str::from_utf8(&patch).unwrap(), Reader::LastWins);
                    oracle::splice(&held, &patch).unwrap()
                }
                Err(_) => pair[1].clone(),
            };
            prop_assert_eq!(&held, &pair[1]);
        }
        // Over several versions at once, and back.
        let (first, last) = (&history[0], &history[history.len() - 1]);
        check(DeltaKind::Splice, first, last);
        check(DeltaKind::Splice, last, first);
    }

    #[test]
    fn a_page_that_is_mostly_the_same_is_patched_by_little(rows in prop::collection::vec(any::<Row>(), 10..40), moment in 0u32..80_000, style: u8) {
        let page = Page { rows, moment, style };
        let mut next = page.clone();
        next.rows[3].1 = next.rows[3].1.wrapping_add(1);
        let patch = check(DeltaKind::Splice, &page.html(), &next.html()).expect("a patch");
        prop_assert!(patch.len() < 60, "{}", patch);
    }
}
