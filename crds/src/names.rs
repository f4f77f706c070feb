//! Labels, annotations, ports and object names that more than one part has to agree on.

/// Label on nodes and pods: the pool that they belong to.
pub const POOL_LABEL: &str = "callplane.io/pool";
/// Label on pods: `media-node`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT_LABEL`] on media-node pods.
pub const MEDIA_NODE_COMPONENT: &str = "media-node";
/// Annotation that keeps the cluster autoscaler away from a pod with calls on it.
pub const SAFE_TO_EVICT_ANNOTATION: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// Field manager of the operator's room controller.
pub const ROOM_MANAGER: &str = "callplane-room-controller";
/// Field manager of the operator's node controller.
pub const NODE_MANAGER: &str = "callplane-node-controller";
/// Field manager of the operator's pool controller.
pub const POOL_MANAGER: &str = "callplane-pool-controller";
/// Field manager of a media node.
pub const MEDIA_NODE_MANAGER: &str = "callplane-media-node";
/// Field manager of the gateway's `status.presence`.
pub const GATEWAY_MANAGER: &str = "callplane-gateway";

/// Secret with the key that signs join tokens and share links, `private.pem` (PKCS#8, ES256) with its `kid`, and with the
/// next one as `next.pem`. Never mounted into a media node.
pub const JOIN_KEYS_SECRET: &str = "callplane-join-keys";
/// Secret that lists public keys: those whose join tokens are believed as `jwks.json`, and those that signed before as
/// `previous.json`. Mounted into every media node and gateway.
pub const JOIN_PUBLIC_SECRET: &str = "callplane-join-public";
/// Secret with the shared secret of TURN as `secret` and the servers as `urls`, one a line. Mounted into the gateway.
pub const TURN_SECRET: &str = "callplane-turn";
/// Secret with the line of coturn's configuration that names its Redis, as `turnserver.conf`.
pub const COTURN_SECRET: &str = "callplane-coturn";
/// Secret with the password of the chart's Redis: `password`, `url`, and `redis.conf` for the server itself.
pub const REDIS_SECRET: &str = "callplane-redis";
/// Secret with the password of the chart's PostgreSQL: `password`, and `url` for the gateway.
pub const POSTGRESQL_SECRET: &str = "callplane-postgresql";
/// Value of [`COMPONENT_LABEL`] on coturn's pods.
pub const COTURN_COMPONENT: &str = "coturn";
/// Field manager of rooms' TURN Secrets, and of `status.turnSecretName`.
pub const TURN_MANAGER: &str = "callplane-turn-controller";
/// Type of rooms' TURN Secrets: what tells them from everybody else's.
pub const TURN_SECRET_TYPE: &str = "callplane.io/turn";
/// Service account of the media-node pods.
pub const MEDIA_NODE_SERVICE_ACCOUNT: &str = "callplane-media-node";
/// Service account of the gateway's pods.
pub const GATEWAY_SERVICE_ACCOUNT: &str = "callplane-gateway";

/// `iss` of a join token.
pub const TOKEN_ISSUER: &str = "callplane";
/// `aud` of a join token.
pub const TOKEN_AUDIENCE: &str = "callplane-media";

/// TCP port of a media node's HTTP API and events.
pub const API_PORT: u16 = 8080;
/// TCP port of `/livez`, `/readyz` and `/metrics`, on every part.
pub const ADMIN_PORT: u16 = 9090;
/// First UDP port for media inside a pod; event loop `i` listens on `RTC_PORT + i`.
pub const RTC_PORT: u16 = 40000;
