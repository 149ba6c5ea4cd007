//! The Prometheus text format that preceded OpenMetrics.

/// Converts OpenMetrics text to the Prometheus text format, version 0.0.4: counters carry the name of their samples,
/// and there is no end marker.
pub fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().filter(|line| *line != "# EOF").peekable();
    while let Some(line) = lines.next() {
        // The line with the type follows the help line, and contains the name.
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
