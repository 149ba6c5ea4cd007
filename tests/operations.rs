//! What is shipped for operators beside the program: units, images, manifests, the dashboard for Grafana.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use sungrazer::config::{self, Overrides};

use crate::support::backend::{Backend, Page};
use crate::support::sidecar::Sidecar;
use crate::support::within;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A configuration that is shipped must be a good one. Returns it.
fn good(name: &str, toml: &str) -> config::Config {
    config::parse(name, toml, &Overrides::default()).unwrap_or_else(|found| panic!("{name}\n{found}"))
}

/// The names of metrics in a query.
fn metrics_of(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sungrazer_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// The names of the labels that `query` asks of `metric`, but those that Prometheus adds.
fn labels_of(query: &str) -> BTreeSet<String> {
    let by = query.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let selected = query.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let names = by.flat_map(|list| list.split(',')).chain(selected.flat_map(|list| list.split(',')));
    names
        .map(|name| name.split(['=', '!']).next().unwrap_or_default().trim().to_owned())
        .filter(|name| !name.is_empty() && name != "job" && name != "instance")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grafana_dashboard_asks_for_metrics_that_there_are() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[server]\nmax_streams = 1\n[[route]]\npath = \"/a\"\nevery = \"20ms\"\n");
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    backend.set("/a", Page::json("2"));
    events.snapshot().await;
    // One that is turned away, and one that is answered from memory.
    assert_eq!(sidecar.get("/a", &[("Accept", "text/event-stream")]).await.status, 503);
    sidecar.get("/a", &[]).await;
    // What rarely happens is counted here as the server would count it.
    let rare = sungrazer::telemetry::Metrics::new();
    let route = rare.route(&"/a".into());
    route.audience_mismatch();
    route.ended("gone");
    let text = format!("{}{}", sidecar.admin("/metrics").await.text(), rare.render());
    let exposed = |metric: &str| {
        text.lines().find(|line| line.starts_with(&format!("{metric}{{")) || line.starts_with(&format!("{metric} ")))
    };
    let dashboard: Value = serde_json::from_str(&read("config/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one id");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let metrics = metrics_of(query);
            assert!(!metrics.is_empty(), "{query}");
            for metric in &metrics {
                let line = exposed(metric).unwrap_or_else(|| panic!("{query}: there is no {metric} in\n{text}"));
                for label in labels_of(query) {
                    assert!(line.contains(&format!("{label}=\"")), "{query}: {metric} has no label {label}: {line}");
                }
            }
            asked.extend(metrics);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        for metric in metrics_of(variable["query"].as_str().unwrap()) {
            assert!(exposed(&metric).is_some(), "{metric}");
        }
    }
    let families: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for family in families {
        assert!(asked.iter().any(|metric| metric.starts_with(family)), "nothing shows {family}");
    }
}

/// What of a unit file is to be looked at: its sections, each with the values of its keys.
fn unit(name: &str) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut sections = BTreeMap::<String, BTreeMap<String, Vec<String>>>::new();
    let mut section = String::new();
    for line in read(name).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
            sections.entry(section.clone()).or_default().entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    sections
}

#[test]
fn the_units_fit_together_and_to_the_program() {
    let service = unit("config/sungrazer.service");
    assert_eq!(service["Service"]["Type"], ["notify"]);
    assert_eq!(service["Service"]["NotifyAccess"], ["all"], "after an upgrade another process speaks");
    for (file, name) in [("config/sungrazer.socket", "listen"), ("config/sungrazer-admin.socket", "admin")] {
        let socket = &unit(file)["Socket"];
        assert_eq!(socket["FileDescriptorName"], [name], "by this name the program takes it");
        assert_eq!(socket["Service"], ["sungrazer.service"]);
        let address = &socket["ListenStream"][0];
        assert!(address.parse::<std::net::SocketAddr>().is_ok(), "{address}");
        let unit = file.strip_prefix("config/").unwrap();
        assert!(service["Unit"]["Requires"][0].contains(unit), "{unit}");
    }
    let seconds: u64 = service["Service"]["TimeoutStopSec"][0].parse().unwrap();
    let defaults = good("defaults", "[upstream]\nurl = \"http://127.0.0.1:8000\"\n");
    assert!(Duration::from_secs(seconds) > defaults.server.drain);
    let files: u64 = service["Service"]["LimitNOFILE"][0].parse().unwrap();
    assert!(files > 2 * defaults.streams.max_streams as u64);
}

/// Asks systemd itself, where it is installed.
#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let analyze = |args: &[&str]| std::process::Command::new("systemd-analyze").args(args).output();
    if analyze(&["--version"]).is_err() {
        return;
    }
    let scratch = crate::support::program::Scratch::new("units");
    let mut paths = Vec::new();
    for name in ["sungrazer.service", "sungrazer.socket", "sungrazer-admin.socket"] {
        // The program is not installed here; whether it is there is not what is asked.
        let text = read(&format!("config/{name}")).replace("/usr/local/bin/sungrazer", env!("CARGO_BIN_EXE_sungrazer"));
        paths.push(scratch.write(name, &text));
    }
    let mut args = vec!["verify", "--man=no"];
    args.extend(paths.iter().map(String::as_str));
    let output = analyze(&args).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("sungrazer")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_image_holds_the_program_and_little_else() {
    let text = read("Containerfile");
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n"), "nothing is in it that we did not put there");
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id >= 1000)), "a number, and not root's: {user}");
    let json = |name: &str| -> Vec<String> {
        let line = last.lines().find_map(|line| line.split_once(name).map(|(_, rest)| rest)).unwrap();
        serde_json::from_str(line.trim()).unwrap()
    };
    assert_eq!(json("ENTRYPOINT "), ["/sungrazer"]);
    assert_eq!(json(" CMD "), ["/sungrazer", "health"]);
    // What the build needs is let in.
    let let_in = read(".containerignore");
    let needed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "config",
        "docs/guide/getting-started.md",
        "examples/wiki",
        "tests/integration.rs",
    ];
    for needed in needed {
        assert!(let_in.lines().any(|line| line == format!("!{needed}")), "{needed}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(needed).exists(), "{needed}");
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Composition {
    services: BTreeMap<String, Container>,
}

/// The part of the Compose specification that is used.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Container {
    image: String,
    build: Option<BTreeMap<String, String>>,
    command: Option<Vec<String>>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    network_mode: Option<String>,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    cap_drop: Vec<String>,
    #[serde(default)]
    security_opt: Vec<String>,
    #[serde(default)]
    ulimits: BTreeMap<String, u64>,
    stop_grace_period: Option<String>,
    restart: String,
}

#[test]
fn the_composition_is_well_formed_and_its_configuration_good() {
    let composition: Composition = serde_yaml::from_str(&read("examples/compose/compose.yaml")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/compose");
    let sidecar = &composition.services["sungrazer"];
    assert!(sidecar.read_only && sidecar.cap_drop == ["ALL"] && !sidecar.security_opt.is_empty());
    assert!(sidecar.command.is_none(), "the image says what to run");
    let build = sidecar.build.as_ref().unwrap();
    assert!(folder.join(&build["context"]).join(&build["dockerfile"]).exists());
    for volume in composition.services.values().flat_map(|service| &service.volumes) {
        let (here, _) = volume.split_once(':').unwrap();
        assert!(folder.join(here).exists() && volume.ends_with(":ro"), "{volume}");
    }
    let application = &composition.services["wiki"];
    assert_eq!(application.network_mode.as_deref(), Some("service:sungrazer"));
    assert!(
        application.depends_on == ["sungrazer"] && application.ports.is_empty(),
        "only reached through the sidecar"
    );
    let config = good("examples/compose/sungrazer.toml", &read("examples/compose/sungrazer.toml"));
    let published = sidecar.ports[0].rsplit(':').next().unwrap();
    assert_eq!(config.server.listen[0].port().to_string(), published);
    let command = application.command.as_ref().unwrap();
    let url = config.upstream.general.replicas.replicas[0].address.to_string();
    assert!(url.ends_with(&format!(":{}", command.last().unwrap())), "{url}");
    let patience = humantime::parse_duration(sidecar.stop_grace_period.as_ref().unwrap()).unwrap();
    assert!(patience > config.server.drain);
    assert!(sidecar.ulimits["nofile"] > 2 * config.streams.max_streams as u64);
    assert!(sidecar.image.starts_with("sungrazer") && !sidecar.restart.is_empty());
}

/// Checks `value` against the part of the Kubernetes API that is used: the keys that may stand at each place, `*` for any.
fn check_keys(value: &Value, place: &str, allowed: &[(&str, &[&str])]) {
    match value {
        Value::Object(object) => {
            let known = allowed.iter().find(|(known, _)| *known == place);
            for (key, inner) in object {
                if let Some((_, keys)) = known {
                    assert!(keys.contains(&key.as_str()) || keys.contains(&"*"), "{place} has no {key}");
                }
                let next = if known.is_some_and(|(_, keys)| keys.contains(&"*")) { "*" } else { key };
                check_keys(inner, next, allowed);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_keys(item, place, allowed)),
        _ => {}
    }
}

const CONTAINER: &[&str] = &[
    "name",
    "image",
    "args",
    "command",
    "ports",
    "restartPolicy",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "resources",
    "securityContext",
    "volumeMounts",
    "env",
];
const PROBE: &[&str] =
    &["exec", "httpGet", "periodSeconds", "failureThreshold", "timeoutSeconds", "initialDelaySeconds"];
const KUBERNETES: &[(&str, &[&str])] = &[
    ("", &["apiVersion", "kind", "metadata", "data", "spec"]),
    ("metadata", &["name", "namespace", "labels", "annotations"]),
    ("labels", &["*"]),
    ("data", &["*"]),
    ("matchLabels", &["*"]),
    ("template", &["metadata", "spec"]),
    ("initContainers", CONTAINER),
    ("containers", CONTAINER),
    ("startupProbe", PROBE),
    ("readinessProbe", PROBE),
    ("livenessProbe", PROBE),
    ("exec", &["command"]),
    ("resources", &["requests", "limits"]),
    ("capabilities", &["drop", "add"]),
    ("seccompProfile", &["type", "localhostProfile"]),
    ("volumeMounts", &["name", "mountPath", "readOnly", "subPath"]),
    ("volumes", &["name", "configMap", "secret", "emptyDir"]),
    ("configMap", &["name", "items"]),
    ("podSelector", &["matchLabels"]),
    ("ingress", &["ports", "from"]),
];

#[test]
fn the_manifest_is_well_formed_and_its_configuration_good() {
    let text = read("examples/kubernetes/sungrazer.yaml");
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect();
    let documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    for document in &documents {
        check_keys(document, "", KUBERNETES);
        assert!(document["metadata"]["name"].is_string(), "{document}");
    }
    let of =
        |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let versions =
        [("ConfigMap", "v1"), ("Deployment", "apps/v1"), ("Service", "v1"), ("NetworkPolicy", "networking.k8s.io/v1")];
    for (kind, version) in versions {
        assert_eq!(of(kind)["apiVersion"], version);
    }
    assert_eq!(documents.len(), versions.len());
    let config = good("the ConfigMap", of("ConfigMap")["data"]["sungrazer.toml"].as_str().unwrap());
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always", "that makes it a sidecar");
    let security = &sidecar["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let command = sidecar[probe]["exec"]["command"].as_array().unwrap();
        assert_eq!((&command[0], &command[1]), (&"/sungrazer".into(), &"health".into()), "{probe}");
    }
    let patience = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(patience > config.server.drain);
    // Names and ports that must be the same in several places.
    let port = u64::from(config.server.listen[0].port());
    assert_eq!(sidecar["ports"][0]["containerPort"], port);
    assert_eq!(of("Service")["spec"]["ports"][0]["targetPort"], sidecar["ports"][0]["name"]);
    assert_eq!(of("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"], port);
    assert_eq!(pod["volumes"][0]["configMap"]["name"], of("ConfigMap")["metadata"]["name"]);
    assert_eq!(pod["volumes"][0]["name"], sidecar["volumeMounts"][0]["name"]);
    let labels = &of("Deployment")["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &of("Deployment")["spec"]["selector"]["matchLabels"],
        &of("Service")["spec"]["selector"],
        &of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let application = &pod["containers"][0]["ports"][0]["containerPort"];
    assert!(config.upstream.general.replicas.replicas[0].address.to_string().ends_with(&format!(":{application}")));
    let mounted = format!("{}/sungrazer.toml", sidecar["volumeMounts"][0]["mountPath"].as_str().unwrap());
    assert!(sidecar["args"].as_array().unwrap().contains(&mounted.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_fetches_and_the_process_are_measured() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\n");
    sidecar.events("/a").await.snapshot().await;
    assert_eq!(sidecar.get("/missing", &[]).await.status, 404);
    assert_eq!(sidecar.get("/.sungrazer/missing", &[]).await.status, 404);
    let expected = [
        "sungrazer_requests_total{how=\"proxied\",status=\"4xx\"} 1",
        "sungrazer_requests_total{how=\"own\",status=\"4xx\"} 1",
        "sungrazer_requests_total{how=\"sse\",status=\"2xx\"} 1",
        "sungrazer_requests_total{how=\"proxied\",status=\"5xx\"} 0",
        "sungrazer_request_seconds_count{how=\"own\"} 1",
    ];
    let text = within("the last of them to be over", async {
        loop {
            let response = sidecar.admin("/metrics").await;
            let text = response.text().to_owned();
            if expected.iter().all(|line| text.lines().any(|one| one == *line)) {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    };
    assert!(value("sungrazer_fetch_seconds_count{route=\"/a\"}") >= 1.0, "{text}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 60.0..=now).contains(&value("sungrazer_config_read_timestamp_seconds")), "{text}");
    assert!(value("process_open_fds") >= 3.0 && value("process_resident_memory_bytes") > 1e6, "{text}");
    assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"), "{text}");
}
