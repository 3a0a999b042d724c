//! The OpenAPI 3.1 document of ingest, and the doors that it describes.
//!
//! A route and its description are added together ([`Doors`]), so there is none without the other. What can be taken from
//! the code is: limits are those in force, problems those of [`crate::problem::Kind`] with the status and title they
//! have, and their examples are made as the real ones are.

pub(crate) mod cloud_events;
pub(crate) mod messages;
mod page;
mod parts;
pub(crate) mod presence;
mod problems;
mod schemas;

use axum::{
    Router,
    extract::Request,
    handler::Handler,
    response::{IntoResponse, Response},
    routing,
};
use http::header;
use utoipa::openapi::{
    ComponentsBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder,
    path::OperationBuilder,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use crate::{
    Ingest, IngestSettings,
    problem::{Kind, Problem},
};

/// Routes with their descriptions.
pub(crate) struct Doors<'s> {
    settings: &'s IngestSettings,
    router: Router<Ingest>,
    paths: PathsBuilder,
}

impl<'s> Doors<'s> {
    pub(crate) fn new(settings: &'s IngestSettings) -> Self {
        Self {
            settings,
            router: Router::new(),
            paths: PathsBuilder::new(),
        }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> &'s IngestSettings {
        self.settings
    }

    /// A path that takes POST. A segment in braces is a parameter, here as there.
    pub(crate) fn post<H, T>(self, path: &str, operation: OperationBuilder, handler: H) -> Self
    where
        H: Handler<T, Ingest>,
        T: 'static,
    {
        Self {
            router: self
                .router
                .route(path, routing::post(handler).fallback(only_post)),
            paths: self.paths.path(path, PathItem::new(HttpMethod::Post, operation)),
            ..self
        }
    }

    /// A path that takes GET, and with it HEAD.
    pub(crate) fn get<H, T>(self, path: &str, operation: OperationBuilder, handler: H) -> Self
    where
        H: Handler<T, Ingest>,
        T: 'static,
    {
        Self {
            router: self.router.route(path, routing::get(handler).fallback(only_get)),
            paths: self.paths.path(path, PathItem::new(HttpMethod::Get, operation)),
            ..self
        }
    }

    /// All routes, and two more: the document of all of them, and its page.
    pub(crate) fn open(self) -> Router<Ingest> {
        let all = page::doors(self);
        let document = document(all.settings, all.paths);
        page::with_document(all.router, &document)
    }
}

async fn only_post(request: Request) -> Response {
    let detail = format!(
        "`{}` is not possible here; messages are sent with POST",
        request.method()
    );
    Problem::new(Kind::MethodNotAllowed, detail)
        .with_header(header::ALLOW, "POST")
        .into_response()
}

async fn only_get(request: Request) -> Response {
    let detail = format!("`{}` is not possible here; ask with GET", request.method());
    Problem::new(Kind::MethodNotAllowed, detail)
        .with_header(header::ALLOW, "GET,HEAD")
        .into_response()
}

/// What stands at the top of the document.
const DESCRIPTION: &str = "Send messages to the browsers, phones and services that listen to a room.\n\n\
    *Accepted means kept*: after `202` a message is in Redis, and dispatchers bring it to every session in its rooms. A \
    refusal is certain as well. Where an answer of Redis was lost the outcome is `unknown`, and repeating the request with \
    the same idempotency key is safe.\n\n\
    A producer says who it is with its key: `Authorization: Bearer <key>` or `X-API-Key: <key>`. Without one it is let in \
    where policy says `anonymous: { producers: true }`.";

fn document(settings: &IngestSettings, paths: PathsBuilder) -> OpenApi {
    let licence = LicenseBuilder::new()
        .name("MIT OR Apache-2.0")
        .identifier(Some("MIT OR Apache-2.0"))
        .build();
    let info = InfoBuilder::new()
        .title("Carillon ingest")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(licence))
        .build();
    let tag = |name: &str, description: &str| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    };
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A producer's key."))
        .build();
    let header =
        ApiKeyValue::with_description("X-API-Key", "The same key, for whom `Authorization` is taken.");
    let components = schemas::all(settings)
        .into_iter()
        .fold(ComponentsBuilder::new(), |components, (name, schema)| {
            components.schema(name, schema)
        })
        .security_scheme(parts::BEARER, SecurityScheme::Http(bearer))
        .security_scheme(parts::API_KEY, SecurityScheme::ApiKey(ApiKey::Header(header)))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .tags(Some([
            tag(parts::MESSAGES, "Sending."),
            tag(parts::ROOMS, "Asking."),
            tag(parts::ABOUT, "This description."),
        ]))
        .paths(paths)
        .components(Some(components))
        .build()
}

#[cfg(test)]
mod tests;
