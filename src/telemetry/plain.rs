//! The text format that Prometheus had before OpenMetrics.

/// Turns OpenMetrics text into the text format of Prometheus, version 0.0.4: counters bear the name of their samples, and
/// nothing marks the end.
pub fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().filter(|line| *line != "# EOF").peekable();
    while let Some(line) = lines.next() {
        // The type is said right after the help, by which the name is known.
        let about = if line.starts_with("# HELP ") { lines.peek().copied().unwrap_or_default() } else { line };
        let name = about.strip_prefix("# TYPE ").and_then(|about| about.strip_suffix(" counter"));
        match name {
            Some(name) => text.push_str(&line.replacen(name, &format!("{name}_total"), 1)),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_older_text_names_counters_by_their_samples() {
        let metrics = Metrics::new();
        let route = metrics.route(&"/counter".into());
        route.ended("left");
        let text = plain(&metrics.render());
        for line in [
            "# HELP sungrazer_streams_ended_total Clients that are held no more, by why.",
            "# TYPE sungrazer_streams_ended_total counter",
            "sungrazer_streams_ended_total{route=\"/counter\",reason=\"left\"} 1",
            "# TYPE sungrazer_config_stale gauge",
            "# TYPE sungrazer_change_to_write_seconds histogram",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(!text.contains("EOF") && !text.contains("# UNIT"), "{text}");
    }
}
