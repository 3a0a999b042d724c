use std::{fs, net::SocketAddr, time::Duration};

use bytesize::ByteSize;

use super::*;
use crate::{setting_words, settings_section, settings_tree};

setting_words! {
    /// How it rings.
    enum Tone { Bright = "bright", Deep = "deep" }
}

settings_section! {
    /// A bell.
    struct BellSettings in "bell", check = check_bell {
        /// Where ringers connect.
        "listen" => listen: SocketAddr = "0.0.0.0:4000";
        /// How long it rings.
        "ring.time" => ring_time: Duration = "3s", range "100ms"..="1m";
        /// How many.
        "limit" => limit: u32 = 8, range 1..=100;
        /// How heavy.
        "weight" => weight: ByteSize = "1MiB";
        /// Its tone.
        "tone" => tone: Tone = "deep";
        /// Whether it rings at night.
        "at_night" => at_night: bool = false;
        /// The tower.
        "tower" => tower: String = Preset::computed("the host's name", || "belfry".to_owned());
        /// What one must know.
        "password" => password: Option<Secret>;
        /// The backend.
        "url" => url: SecretUrl = "redis://localhost";
        /// Ringers.
        "ringers" => ringers: Vec<String>;
    }
}

fn check_bell(bell: &BellSettings, reader: &mut Reader<'_>) {
    if bell.at_night && bell.ringers.is_empty() {
        reader.problem("bell.ringers", "must name someone if bell.at_night is true");
    }
}

settings_tree! {
    struct Settings { log: LogSettings, telemetry: TelemetrySettings, bell: BellSettings }
}

fn loader() -> (Loader, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (
        Loader::new("carillon bell").directory(directory.path()),
        directory,
    )
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn run(loader: Loader) -> Loaded<Settings> {
    match loader.load::<Settings>() {
        Ok(Request::Run(loaded)) => *loaded,
        other => panic!("expected settings, got {other:?}"),
    }
}

fn mistakes(loader: Loader) -> Vec<String> {
    let SettingsErrors(problems) = loader.load::<Settings>().unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_hold_where_nobody_says_anything() {
    let (loader, _directory) = loader();
    let settings = run(loader).settings;
    assert_eq!(settings.bell.listen.port(), 4000);
    assert_eq!(settings.bell.ring_time, Duration::from_secs(3));
    assert_eq!(settings.bell.weight, ByteSize::mib(1));
    assert_eq!(settings.bell.tone, Tone::Deep);
    assert_eq!(settings.bell.tower, "belfry");
    assert_eq!(settings.bell.password, None);
    assert!(settings.bell.ringers.is_empty());
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level.as_str(), "info");
    assert_eq!(settings.telemetry.otlp_endpoint, None);
}

#[test]
fn each_source_overrules_the_one_before_and_is_named() {
    let (loader, directory) = loader();
    let file = directory.path().join("carillon.yaml");
    fs::write(
        &file,
        "bell:\n  limit: 3\n  ring.time: 4s\n  tone: bright\n  ringers: [ann, bob]\n",
    )
    .unwrap();
    let loaded = run(loader
        .preset("bell.limit", "2")
        .preset("bell.weight", "2KiB")
        .variables(variables(&[
            ("CARILLON_BELL__RING__TIME", "5s"),
            ("CARILLON_BELL__TONE", "deep"),
        ]))
        .arguments([
            "--bell.ring.time",
            "6s",
            "--bell.at_night",
            "--bell.url=redis://u:pw@h",
        ]));
    let bell = &loaded.settings.bell;
    assert_eq!(bell.limit, 3, "file over command");
    assert_eq!(bell.weight, ByteSize::kib(2), "command over default");
    assert_eq!(bell.tone, Tone::Deep, "environment over file");
    assert_eq!(bell.ring_time, Duration::from_secs(6), "flag over environment");
    assert!(bell.at_night);
    assert_eq!(bell.ringers, ["ann", "bob"]);
    assert_eq!(bell.url.expose(), "redis://u:pw@h");
    assert_eq!(loaded.file.as_deref(), Some(file.as_path()));

    let printed: Vec<(&str, &str)> = loaded
        .print()
        .lines()
        .filter_map(|l| l.split_once("  # "))
        .collect();
    let line = |value: &str| {
        printed
            .iter()
            .find(|(left, _)| left.trim() == value)
            .map(|(_, source)| *source)
    };
    let in_file = |number: usize| format!("{}:{number}", file.display());
    assert_eq!(line("bell.limit = 3"), Some(in_file(2).as_str()));
    assert_eq!(line("bell.ringers = ann, bob"), Some(in_file(5).as_str()));
    assert_eq!(line("bell.weight = 2KiB"), Some("default of carillon bell"));
    assert_eq!(
        line("bell.tone = deep"),
        Some("environment variable CARILLON_BELL__TONE")
    );
    assert_eq!(line("bell.ring.time = 6s"), Some("flag --bell.ring.time"));
    assert_eq!(line("bell.url = redis://u:***@h"), Some("flag --bell.url"));
    assert_eq!(line("bell.listen = 0.0.0.0:4000"), Some("default"));
    assert_eq!(line("bell.password = (none)"), Some("default"));
    assert_eq!(
        printed.len(),
        14,
        "every setting has its line: {}",
        loaded.print()
    );
}

#[test]
fn all_mistakes_of_all_sources_are_told_at_once() {
    let (loader, directory) = loader();
    let file = directory.path().join("carillon.yaml");
    fs::write(
        &file,
        "bell:\n  limit: many\n  lisetn: 1\n  ring: 3\ngong: {x: 1}\n",
    )
    .unwrap();
    let told = mistakes(
        loader
            .variables(variables(&[
                ("CARILLON_BELL__WEIGHT", "heavy"),
                ("CARILLON_BELL_TONE", "deep"),
                ("CARILLON_GATEWAY_SERVICE_HOST", "10.0.0.1"),
                ("HOME", "/"),
            ]))
            .arguments([
                "--bell.ring.time=2h",
                "--bell.towre",
                "x",
                "stray",
                "--bell.tone=shrill",
                "--log.level=inof",
            ]),
    );
    let file = file.display();
    let expected = [
        format!("bell.lisetn ({file}:3): is not known; did you mean bell.listen?"),
        format!("bell.ring ({file}:4): is a group of settings, such as bell.ring.time, not a value"),
        format!("gong.x ({file}:5): is not known; `--print-settings` lists all"),
        "environment variable CARILLON_BELL_TONE: is not a setting; did you mean CARILLON_BELL__TONE?".into(),
        "flag --bell.towre: is not known; did you mean --bell.tower?".into(),
        "`stray` is not a flag; flags look like `--redis.url`".into(),
        format!(
            "log.level (flag --log.level): `inof`: expected {}",
            LogLevel::expects()
        ),
        "bell.ring.time (flag --bell.ring.time): `2h`: must be from 100ms to 1m".into(),
        format!("bell.limit ({file}:2): `many`: expected a whole number from 0 to 4294967295"),
        format!(
            "bell.weight (environment variable CARILLON_BELL__WEIGHT): `heavy`: expected {}",
            ByteSize::expects()
        ),
        "bell.tone (flag --bell.tone): `shrill`: expected one of `bright`, `deep`".into(),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_secret_shows_in_no_output() {
    let (loader, directory) = loader();
    fs::write(
        directory.path().join("carillon.yaml"),
        "bell: {password: hunter2, url: 'redis://:hunter2@h'}",
    )
    .unwrap();
    let loaded = run(loader.clone());
    assert!(!format!("{loaded:?} {}", loaded.print()).contains("hunter2"));
    assert!(loaded.print().contains("bell.password = ***"));
    assert_eq!(
        loaded.settings.bell.password.as_ref().map(Secret::expose),
        Some("hunter2")
    );
    let told = mistakes(loader.arguments(["--bell.url", "hunter2"])).join("\n");
    assert!(
        told.starts_with("bell.url (flag --bell.url): expected a URL"),
        "{told}"
    );
    assert!(!told.contains("hunter2"));
}

#[test]
fn a_file_can_be_named_and_must_then_be_there() {
    let (loader, directory) = loader();
    let named = directory.path().join("other.yaml");
    let other = named.display().to_string();
    let by_variable = loader
        .clone()
        .variables(variables(&[("CARILLON_CONFIG", &other)]));
    assert!(
        mistakes(by_variable.clone())[0].starts_with("environment variable CARILLON_CONFIG: cannot read")
    );
    fs::write(&named, "bell: {limit: 5}").unwrap();
    fs::write(directory.path().join("carillon.yaml"), "bell: {limit: 6}").unwrap();
    assert_eq!(run(by_variable.clone()).settings.bell.limit, 5);
    assert_eq!(run(loader.arguments(["--config", &other])).settings.bell.limit, 5);
    assert!(mistakes(by_variable.arguments(["--config"]))[0].contains("needs a path"));
}

#[test]
fn a_required_setting_and_a_section_check() {
    settings_section! {
        /// A door.
        struct DoorSettings in "door" {
            /// Its key.
            "key_file" => key_file: std::path::PathBuf;
        }
    }
    settings_tree! { struct House { door: DoorSettings } }
    let (empty, _directory) = loader();
    let told = empty.clone().load::<House>().unwrap_err().to_string();
    assert!(
        told.contains("door.key_file: must be set (in the file, as CARILLON_DOOR__KEY_FILE,"),
        "{told}"
    );
    let Ok(Request::Run(house)) = empty.clone().arguments(["--door.key_file", "/k"]).load::<House>() else {
        panic!("it is set")
    };
    assert_eq!(house.settings.door.key_file.to_str(), Some("/k"));

    assert_eq!(
        mistakes(empty.clone().arguments(["--bell.at_night"])),
        ["bell.ringers (default): must name someone if bell.at_night is true"]
    );
    let told = mistakes(empty.arguments(["--telemetry.otlp.endpoint", "https://collector:4317"]));
    assert!(told[0].contains("must start with `http://`"), "{told:?}");
}

#[test]
fn flags_of_every_form() {
    let (loader, _directory) = loader();
    let loaded = run(loader
        .clone()
        .arguments(["--bell.ringers", "ann", "--bell.ringers=bob,cy"]));
    assert_eq!(loaded.settings.bell.ringers, ["ann", "bob", "cy"]);
    let loaded = run(loader
        .clone()
        .arguments(["--bell.at_night=false", "--bell.password="]));
    assert!(!loaded.settings.bell.at_night);
    assert_eq!(loaded.settings.bell.password, None);
    let told = mistakes(
        loader
            .clone()
            .arguments(["--bell.limit", "1", "--bell.limit=2", "--bell.tone"]),
    );
    assert_eq!(told[0], "flag --bell.limit: is given twice");
    assert_eq!(
        told[1],
        "flag --bell.tone: needs a value: one of `bright`, `deep`"
    );
    for (flag, part) in [
        ("--print-settings", "bell.limit = 8"),
        ("--help", "--bell.ring.time"),
        ("-h", "Usage: "),
    ] {
        match loader.clone().arguments([flag]).load::<Settings>() {
            Ok(Request::Print(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_reference_names_every_setting() {
    let reference = reference::<Settings>();
    for part in [
        "## bell\n\nA bell.\n",
        "| `bell.ring.time` | `3s` | How long it rings. Expects a duration, such as `30s`, `500ms` or `1h 30m`, from 100ms to 1m. |",
        "| `bell.tower` | the host's name |",
        "| `bell.password` | none | What one must know. Expects a secret. Hidden when shown. |",
        "## telemetry",
    ] {
        assert!(reference.contains(part), "{part}\nnot in\n{reference}");
    }
}
