//! The OpenAPI 3.1 description, made from the types. `docs/openapi.json` is this; `make openapi` writes it.

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{http, problem, rooms};

/// The description of what clients may rely on.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "callplane gateway",
        description = "Rooms, join tokens and share links. `/v1/meetings` is another name of `/v1/rooms`. \
            Under `/api/rooms/{roomId}`, `/whip/{roomId}` and `/whep/{roomId}` requests and WebSockets are passed on to the \
            room's media node: docs/api.md.",
    ),
    paths(
        rooms::create,
        rooms::list,
        rooms::read,
        rooms::join,
        rooms::leave,
        rooms::end,
        rooms::lock,
        rooms::create_link,
        rooms::revoke_link,
        rooms::give_consent,
        rooms::consents,
        http::jwks,
    ),
    components(schemas(problem::Code)),
    modifiers(&Schemes),
)]
struct Api;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = |about: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
            SecurityScheme::Http(scheme.build())
        };
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("apiKey", bearer("A backend's API key."));
        components.add_security_scheme("joinToken", bearer("The join token of somebody in the room."));
    }
}

/// As JSON, with a line's end at its end.
pub fn text() -> String {
    Api::openapi().to_pretty_json().unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_description_in_docs_is_the_one_that_is_served() {
        let written = std::fs::read_to_string("../docs/openapi.json").unwrap_or_default();
        assert!(written == super::text(), "docs/openapi.json is out of date: run `make openapi`");
    }
}
