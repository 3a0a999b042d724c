//! A server that speaks TLS and knows users, as docs/redis.md says they should be made.

use std::{path::PathBuf, process::Command};

use carillon_broker::{
    Health as _,
    redis::{Mode, RedisBroker, RedisOptions},
};

use crate::{
    server::{Server, free_port},
    subject::options,
};

/// A server with TLS beside its plain port, which is for the tests' own commands.
pub(crate) struct Secured {
    pub(crate) server: Server,
    tls_port: u16,
    authority: PathBuf,
}

impl Secured {
    pub(crate) fn start() -> Self {
        let tls_port = free_port();
        let folder = std::env::temp_dir().join(format!("carillon-tls-{}-{tls_port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        // An authority, and the server's certificate signed by it.
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority of a test",
            "-keyout",
            &path("ca.key"),
            "-out",
            &path("ca.crt"),
        ]);
        std::fs::write(path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &path("server.key"),
            "-out",
            &path("server.csr"),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-CA",
            &path("ca.crt"),
            "-CAkey",
            &path("ca.key"),
            "-CAcreateserial",
            "-extfile",
            &path("names"),
            "-in",
            &path("server.csr"),
            "-out",
            &path("server.crt"),
        ]);
        let port = tls_port.to_string();
        let files = ["server.crt", "server.key", "ca.crt"].map(path);
        let mut arguments = vec![
            "--appendonly",
            "no",
            "--tls-port",
            &port,
            "--tls-auth-clients",
            "no",
        ];
        let names = ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"];
        arguments.extend(names.iter().zip(&files).flat_map(|(name, file)| [*name, file]));
        let user = documented_user();
        arguments.push("--user");
        arguments.extend(user.iter().map(String::as_str));
        let server = Server::start(&arguments);
        Self {
            server,
            tls_port,
            authority: folder.join("ca.crt"),
        }
    }

    pub(crate) fn options(&self, password: &str) -> RedisOptions {
        let url = format!("rediss://carillon:{password}@localhost:{}", self.tls_port);
        RedisOptions {
            tls_ca_file: Some(self.authority.clone()),
            prefix: "test:".to_owned(),
            ..options(url, Mode::Standalone)
        }
    }
}

/// What the user of [`Secured`] proves itself with.
pub(crate) const PASSWORD: &str = "a-long-secret";

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.expect("openssl is missing: apt-get install openssl");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The words after `ACL SETUSER` in docs/redis.md, for the prefixes and lists of the suite.
fn documented_user() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rule) = page.split_once("ACL SETUSER ").unwrap();
    let (rule, _) = rule.split_once("```").unwrap();
    let own = |word: &str| match word {
        ">…" => format!(">{PASSWORD}"),
        "~carillon:*" => "~test*".to_owned(),
        "~message" => "~*-*".to_owned(),
        other => other.to_owned(),
    };
    rule.split_whitespace().map(own).collect()
}

/// Why a broker does not take its server.
pub(crate) async fn complaint(options: RedisOptions) -> String {
    match RedisBroker::new(options).unwrap().check().await {
        Err(error) => error.to_string(),
        Ok(()) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_called_so_and_not_shown() {
    let secured = Secured::start();
    let text = complaint(secured.options("something-else")).await;
    assert!(text.contains("refuses the credentials"), "{text}");
    assert!(!text.contains("something-else"), "{text}");
}

#[tokio::test]
async fn a_server_whose_authority_is_unknown_is_not_talked_to() {
    let secured = Secured::start();
    let options = RedisOptions {
        tls_ca_file: None,
        ..secured.options(PASSWORD)
    };
    let text = complaint(options).await;
    assert!(text.contains("certificate"), "{text}");
    assert!(text.contains("redis.tls.ca_file"), "{text}");
}
