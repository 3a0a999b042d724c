//! Sends messages until their outcome is known: what is refused for now is sent again after `Retry-After`, and what has
//! an unknown outcome under the same idempotency key, so that nobody gets it twice.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::messages::Outgoing;

/// What became of a message.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It is kept: the answer, with its id and where it is.
    Accepted(Value),
    /// It is certainly not kept: why.
    Refused(Value),
    /// Patience was at its end: why, and whether it may have been kept all the same.
    GivenUp { why: String, unknown: bool },
}

/// Sends.
pub(super) struct Sender {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    patience: Duration,
}

/// What one try came to.
enum Try {
    Done(Vec<Value>),
    Refused(Value),
    Later {
        pause: Option<Duration>,
        why: String,
        /// Whether it may have been kept all the same.
        unknown: bool,
    },
}

/// Pauses between tries grow from one to the other, unless the server says how long to wait.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Sender {
    pub(super) fn new(url: &str, key: Option<String>, patience: Duration) -> anyhow::Result<Self> {
        let parsed = reqwest::Url::parse(url).ok();
        if !parsed
            .as_ref()
            .is_some_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            let text = format!("`{url}` is no address of an ingest; it looks like http://127.0.0.1:8080");
            bail!(carillon_chassis::run::Misconfigured(text));
        }
        let mut client = reqwest::Client::builder();
        if parsed.is_some_and(|url| url.scheme() == "http") {
            // Without TLS it does not matter whom this system trusts, and an image without certificates can send, too.
            let nobody = rustls::RootCertStore::empty();
            let tls = rustls::ClientConfig::builder().with_root_certificates(nobody);
            client = client.tls_backend_preconfigured(tls.with_no_client_auth());
        }
        let client = client
            .timeout(Duration::from_secs(20))
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("carillon/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self {
            client,
            url: format!("{}/v1/messages", url.trim_end_matches('/')),
            key,
            patience,
        })
    }

    /// Sends messages in this order, together; one outcome for each. An error: it makes no sense to go on.
    pub(super) async fn send(&self, messages: &[Outgoing]) -> anyhow::Result<Vec<Outcome>> {
        match (self.send_together(messages).await?, messages) {
            (Err(_), [_, _, ..]) => {
                // One of them is wrong, and all were refused for it. One by one shows which.
                let mut outcomes = Vec::new();
                for message in messages {
                    let outcome = self.send_together(std::slice::from_ref(message)).await?;
                    outcomes.extend(outcome.unwrap_or_else(|problem| vec![Outcome::Refused(problem)]));
                }
                Ok(outcomes)
            }
            (Err(problem), _) => Ok(vec![Outcome::Refused(problem)]),
            (Ok(outcomes), _) => Ok(outcomes),
        }
    }

    async fn send_together(&self, messages: &[Outgoing]) -> anyhow::Result<Result<Vec<Outcome>, Value>> {
        let body = match messages {
            [one] => one.body.clone(),
            many => {
                let bodies: Vec<&str> = many.iter().map(|message| message.body.as_str()).collect();
                format!("[{}]", bodies.join(","))
            }
        };
        let give_up = Instant::now() + self.patience;
        let mut next_pause = PAUSES.0;
        let mut uncertain = false;
        loop {
            let (pause, why) = match self.attempt(&body).await? {
                Try::Done(answers) if answers.len() == messages.len() => {
                    return Ok(Ok(answers.into_iter().map(Outcome::Accepted).collect()));
                }
                Try::Done(_) => bail!("the answer of {} is not that of an ingest", self.url),
                Try::Refused(problem) => return Ok(Err(problem)),
                Try::Later { pause, why, unknown } => {
                    uncertain |= unknown;
                    (pause, why)
                }
            };
            let pause = pause.unwrap_or(next_pause);
            next_pause = (next_pause * 2).min(PAUSES.1);
            if Instant::now() + pause >= give_up {
                let outcome = Outcome::GivenUp {
                    why,
                    unknown: uncertain,
                };
                return Ok(Ok(vec![outcome; messages.len()]));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, body: &str) -> anyhow::Result<Try> {
        let mut request = self
            .client
            .post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned());
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let unknown = !error.is_connect();
                let why = format!("{} does not answer: {}", self.url, causes(&error));
                return Ok(Try::Later {
                    pause: None,
                    why,
                    unknown,
                });
            }
        };
        let status = answer.status();
        let pause = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = match answer.text().await {
            Ok(body) => serde_json::from_str::<Value>(&body).unwrap_or_else(|_| json!({ "detail": body })),
            Err(error) => {
                let why = format!("the answer of {} was cut off: {}", self.url, causes(&error));
                return Ok(Try::Later {
                    pause: None,
                    why,
                    unknown: true,
                });
            }
        };
        let detail = body["detail"]
            .as_str()
            .unwrap_or("no reason was given")
            .to_owned();
        match status {
            StatusCode::ACCEPTED => Ok(Try::Done(match body {
                Value::Array(answers) => answers,
                one => vec![one],
            })),
            StatusCode::UNAUTHORIZED => bail!(
                "{detail}; set client.key (CARILLON_CLIENT__KEY), or let policy say `anonymous: {{ producers: true }}`"
            ),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                bail!(
                    "{} is no ingest ({status}: {detail}); set --url to one, port 8080 by default",
                    self.url
                )
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Ok(Try::Later {
                pause,
                why: detail,
                unknown: false,
            }),
            status if status.is_server_error() => Ok(Try::Later {
                pause,
                why: format!("{status}: {detail}"),
                unknown: body["outcome"] != "refused",
            }),
            _ => Ok(Try::Refused(body)),
        }
    }
}

/// An error with all its causes: the outermost alone says nothing.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
