//! Requests of Vault's API that `vaultrs` has no types for.

use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::Serialize;

/// Which engine answers for a path, as the vault's own command line asks
/// (<https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts>).
pub(super) struct MountOf(pub(super) String);

/// Ends a dynamic secret, and answers when it is done
/// (<https://developer.hashicorp.com/vault/api-docs/system/leases#revoke-lease>).
#[derive(Serialize)]
pub(super) struct RevokeLease {
    lease_id: String,
    sync: bool,
}

// === impl MountOf ===

impl Endpoint for MountOf {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("sys/internal/ui/mounts/{}", self.0)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}

// === impl RevokeLease ===

impl RevokeLease {
    pub(super) fn new(lease_id: String) -> RevokeLease {
        RevokeLease { lease_id, sync: true }
    }
}

impl Endpoint for RevokeLease {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        "sys/leases/revoke".to_owned()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        rustify::http::build_body(self, RequestType::JSON).map(Some)
    }
}
