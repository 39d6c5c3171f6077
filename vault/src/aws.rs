//! Reads secrets of AWS Secrets Manager, as whoever AWS's own chain of credentials says this process is: variables,
//! profile, web identity (IRSA), container, instance.
//!
//! The SDK's requests go out through our own [`Caller`], which knows a limit and no redirects. Must never start a
//! program to get credentials, or ask twice.

use std::error::Error;
use std::path::PathBuf;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::call::{Caller, Reply};
use crate::{Fault, Raw, json};

/// How Secrets Manager is reached. Without settings it is as AWS's own tools would.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Aws")]
pub(crate) struct Settings {
    /// The region; without one what the environment or the profile says.
    region: Option<String>,
    /// Another endpoint than the region's own, such as one in a private network.
    endpoint: Option<String>,
    /// PEM file of the authorities that its certificate may be of; the public ones without it.
    roots: Option<PathBuf>,
}

/// Secrets Manager in one region.
#[derive(Debug, Default)]
pub(crate) struct Aws {
    settings: Settings,
    client: OnceCell<Client>,
}

/// Where one secret is.
pub(crate) struct Wanted<'a> {
    /// Name or ARN.
    pub(crate) id: &'a str,
    /// Which key of the JSON object in it; the whole value without one.
    pub(crate) key: Option<&'a str>,
    pub(crate) stage: Option<&'a str>,
    pub(crate) version: Option<&'a str>,
}

/// Sends the SDK's requests.
#[derive(Debug, Clone)]
struct Sender(Caller);

// === impl Aws ===

impl Aws {
    pub(crate) fn new(settings: Settings) -> Result<Aws, String> {
        Caller::new(settings.roots.as_deref())?;
        if let Some(endpoint) = &settings.endpoint {
            crate::call::check_address(endpoint)?;
        }
        Ok(Aws { settings, client: OnceCell::new() })
    }

    /// Reads the value, or one key of it.
    pub(crate) async fn read(&self, wanted: &Wanted<'_>) -> Result<Raw, Fault> {
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        let request = client.get_secret_value().secret_id(wanted.id);
        let request = request.set_version_stage(wanted.stage.map(str::to_owned));
        let request = request.set_version_id(wanted.version.map(str::to_owned));
        let found = request.send().await.map_err(|error| fault(&error))?;
        let version = found.version_id.clone();
        let value = value(found)?;
        let value = match wanted.key {
            None => value,
            Some(key) => json::field(str::from_utf8(&value).unwrap_or_default(), key)?,
        };
        Ok(Raw { value, version, loan: None })
    }

    async fn connect(&self) -> Result<Client, Fault> {
        let caller = Caller::new(self.settings.roots.as_deref()).map_err(Fault::Unreachable)?;
        let mut config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(Sender(caller))
            .retry_config(RetryConfig::disabled());
        if let Some(region) = &self.settings.region {
            config = config.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.settings.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let config = config.load().await;
        if config.region().is_none() {
            return Err(Fault::Login("no AWS region is known; name one as `region:` of the provider".to_owned()));
        }
        Ok(Client::new(&config))
    }
}

// === impl Sender ===

impl HttpClient for Sender {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Sender {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let caller = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = request.map(|body| body.bytes().unwrap_or_default().to_vec());
            let reply = caller.call(request, MOST_BYTES).await;
            response(reply.map_err(|fault| ConnectorError::other(fault.into(), None))?)
        })
    }
}

fn response(reply: Reply) -> Result<HttpResponse, ConnectorError> {
    // A body that streams is not shown where the SDK traces a response; one in memory would be.
    let body = SdkBody::from_body_1_x(Full::new(Bytes::from_owner(reply.body)));
    let mut response = HttpResponse::new(reply.status.into(), body);
    for (name, value) in &reply.headers {
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}

/// The value itself, text or bytes.
fn value(found: GetSecretValueOutput) -> Result<Zeroizing<Vec<u8>>, Fault> {
    match (found.secret_string, found.secret_binary) {
        (Some(text), _) => Ok(Zeroizing::new(text.into_bytes())),
        (None, Some(bytes)) => Ok(Zeroizing::new(bytes.into_inner())),
        (None, None) => Err(Fault::Garbled),
    }
}

fn fault(error: &SdkError<GetSecretValueError, HttpResponse>) -> Fault {
    if let Some(fault) = cause::<Fault>(error) {
        return fault.clone();
    }
    let refused = Fault::Login("the AWS credentials that were found are not accepted, or there are none".to_owned());
    let Some(service) = error.as_service_error() else {
        return if matches!(error, SdkError::ResponseError(_)) { Fault::Garbled } else { refused };
    };
    let status = error.raw_response().map(|response| response.status().as_u16()).unwrap_or_default();
    match service.code() {
        Some("ResourceNotFoundException" | "InvalidRequestException") => Fault::Missing,
        Some("AccessDeniedException") => Fault::Denied,
        Some("ThrottlingException" | "TooManyRequestsException") => Fault::Throttled,
        Some(code) if LOGIN_CODES.contains(&code) => refused,
        Some(_) | None if status >= 500 => Fault::Unavailable(status),
        Some(_) => Fault::Refused(status),
        None => Fault::Garbled,
    }
}

/// The first cause of this type.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What AWS answers when it does not know who asks
/// (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>).
const LOGIN_CODES: &[&str] = &[
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "UnrecognizedClientException",
];

/// Bytes of one reply: a secret as long as one may be, escaped.
const MOST_BYTES: usize = 256 * 1024;
