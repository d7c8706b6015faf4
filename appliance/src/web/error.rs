//! What goes wrong while a request is answered, as an HTTP status and a sentence. [`super::problem`] makes the body.

use std::error::Error as StdError;

use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fleet::Refusal;

use super::problem::problem;

use crate::auth::AuthError;
use crate::core::ExecuteError;
use crate::packages::PackageError;
use crate::query::WrongExpression;
use crate::store::StoreError;
use crate::systems::SystemsError;

#[derive(Debug)]
pub enum Error {
    /// The caller can do something about it.
    Refused { status: StatusCode, sentence: String, retry_after_secs: Option<u64> },
    /// The appliance could not do its work; logged where it is answered.
    Broken(Box<dyn StdError + Send + Sync>),
}

impl Error {
    pub fn refused(status: StatusCode, sentence: impl Into<String>) -> Error {
        Error::Refused { status, sentence: sentence.into(), retry_after_secs: None }
    }

    pub fn not_logged_in() -> Error {
        Error::refused(StatusCode::UNAUTHORIZED, "log in first")
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Error::Refused { status, sentence, retry_after_secs } => {
                let mut response = problem(status, sentence);
                if let Some(secs) = retry_after_secs {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
                }
                response
            }
            Error::Broken(error) => {
                tracing::error!(error = &*error as &dyn StdError, "A request could not be answered: {error}");
                let sentence = format!("the appliance could not do that: {error}");
                problem(StatusCode::INTERNAL_SERVER_ERROR, sentence)
            }
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let status = match &refusal {
            Refusal::Missing { .. } => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) | Refusal::OfHosts { .. } => StatusCode::CONFLICT,
            Refusal::NotTenants(_) => StatusCode::FORBIDDEN,
            Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Error::refused(status, refusal.to_string())
    }
}

impl From<ExecuteError> for Error {
    fn from(error: ExecuteError) -> Error {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::NotAllowed { .. } | ExecuteError::OutOfScope { .. } => {
                Error::refused(StatusCode::FORBIDDEN, error.to_string())
            }
            ExecuteError::Changed => Error::refused(StatusCode::CONFLICT, error.to_string()),
            ExecuteError::NotDurable(_) => Error::Broken(error.into()),
            ExecuteError::Away(_) | ExecuteError::Unknown(_) | ExecuteError::Stopping => {
                Error::refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

impl From<WrongExpression> for Error {
    fn from(wrong: WrongExpression) -> Error {
        Error::refused(StatusCode::UNPROCESSABLE_ENTITY, wrong.to_string())
    }
}

impl From<SystemsError> for Error {
    fn from(error: SystemsError) -> Error {
        let status = match &error {
            SystemsError::Unusable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SystemsError::BrokenOff { .. } => StatusCode::BAD_REQUEST,
            SystemsError::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            SystemsError::File { .. } => return Error::Broken(error.into()),
        };
        Error::refused(status, error.to_string())
    }
}

impl From<PackageError> for Error {
    fn from(error: PackageError) -> Error {
        let status = match &error {
            PackageError::Unusable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            PackageError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PackageError::BrokenOff { .. } => StatusCode::BAD_REQUEST,
            PackageError::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            PackageError::File { .. } => return Error::Broken(error.into()),
        };
        Error::refused(status, error.to_string())
    }
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Error {
        let status = match &error {
            AuthError::WrongCode | AuthError::WrongPassword => StatusCode::UNAUTHORIZED,
            AuthError::AlreadySet | AuthError::NotSet => StatusCode::CONFLICT,
            AuthError::UnusablePassword | AuthError::UnusableDays => StatusCode::UNPROCESSABLE_ENTITY,
            AuthError::TooManyTries { wait_secs, .. } => {
                return Error::Refused {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    retry_after_secs: Some(*wait_secs),
                    sentence: error.to_string(),
                };
            }
            AuthError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            AuthError::Hash(_) => return Error::Broken(error.into()),
            AuthError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        if let AuthError::Store(error) = error {
            return error.into();
        }
        Error::refused(status, error.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        if error.is_away() {
            let sentence = format!("{error}: {}; this cannot be answered from memory", error.why());
            return Error::refused(StatusCode::SERVICE_UNAVAILABLE, sentence);
        }
        Error::Broken(error.into())
    }
}

impl From<askama::Error> for Error {
    fn from(error: askama::Error) -> Error {
        Error::Broken(error.into())
    }
}

impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Error {
        Error::refused(rejection.status(), rejection.body_text())
    }
}
