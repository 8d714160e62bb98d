//! What a handler makes of a request, and how that runs: a question for one slot goes out at once and
//! needs no future of its own; everything else is a future or a finished response.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::future::poll_once;
use shards::command::{Ask, Command, Query};
use shards::ids::UserId;
use shards::outcome::Outcome;

use super::Api;
use super::authentication::Newcomer;
use super::endpoint::Endpoint;
use crate::client::{Call, Question, Refused, Shards};
use crate::front::contract;
use crate::front::http::write::Response;
use crate::front::problem::Problem;

type BoxedFuture = Pin<Box<dyn Future<Output = Result<Response, Problem>>>>;

/// Makes a response of a question's outcome. Boxing a function that captures nothing allocates nothing.
type Respond = Box<dyn FnOnce(Outcome) -> Response>;

/// What a handler makes of a request. It owns all it needs, and has done nothing yet.
pub(in crate::front) enum Work {
    /// One question for one slot.
    Ask(Question, Respond),
    /// Several questions, or work on other threads.
    Future(BoxedFuture),
    Ready(Response),
}

impl Work {
    pub(super) fn command(command: Command, respond: impl FnOnce(Outcome) -> Response + 'static) -> Work {
        Work::Ask(Question::new(Ask::Command(command)), Box::new(respond))
    }

    /// `query` is for one slot.
    pub(super) fn query(query: Query, respond: impl FnOnce(Outcome) -> Response + 'static) -> Work {
        Work::Ask(Question::new(Ask::Query(query)), Box::new(respond))
    }

    pub(super) fn future(future: impl Future<Output = Result<Response, Problem>> + 'static) -> Work {
        Work::Future(Box::pin(future))
    }

    /// Runs it to its end.
    pub(super) async fn run(self, shards: &Shards) -> Result<Response, Problem> {
        match self {
            Work::Ask(question, respond) => {
                let reply = shards.ask(question).map_err(Refused::from)?.await;
                Ok(respond(reply.map_err(Refused::Rejected)?))
            }
            Work::Future(future) => future.await,
            Work::Ready(response) => Ok(response),
        }
    }
}

/// A request that is read, routed and authenticated, and has not begun.
pub struct Prepared {
    /// Whose contract holds for the response; `None` when no endpoint was found.
    pub(super) endpoint: Option<&'static Endpoint>,
    pub(super) work: Result<Work, Problem>,
    /// The account for which the work counts as so many changes when it begins.
    pub(super) changes_of: Option<(UserId, u32)>,
    /// The sender, if it has to arrive before the request is prepared once more.
    pub(super) newcomer: Option<Box<Newcomer>>,
}

/// A request that has begun.
pub enum Begun {
    Running(Running),
    Done(Response),
}

impl Prepared {
    /// A request for which there is no endpoint.
    pub(super) fn refused(problem: Problem) -> Prepared {
        Prepared { endpoint: None, work: Err(problem), changes_of: None, newcomer: None }
    }

    /// A request that no endpoint answers, and that needs none.
    pub(in crate::front) fn ready(response: Response) -> Prepared {
        Prepared { endpoint: None, work: Ok(Work::Ready(response)), changes_of: None, newcomer: None }
    }

    /// Takes the sender out that has to arrive first.
    pub(in crate::front) fn newcomer(&mut self) -> Option<Box<Newcomer>> {
        self.newcomer.take()
    }

    /// Refuses the request after all.
    pub(in crate::front) fn refuse(&mut self, problem: Problem) {
        self.work = Err(problem);
    }

    /// The one question that this request is, if it is one.
    pub fn question(&self) -> Option<&Question> {
        match &self.work {
            Ok(Work::Ask(question, _)) => Some(question),
            Ok(Work::Future(_) | Work::Ready(_)) | Err(_) => None,
        }
    }

    /// Begins the request: its first question has been sent when this returns.
    pub async fn begin(self, api: &Api) -> Begun {
        let Prepared { endpoint, work, changes_of, newcomer: _ } = self;
        if let Some((account, count)) = changes_of
            && work.is_ok()
            && let Err(reached) = api.account_limits.take_changes(account, count)
        {
            return Begun::Done(finish(endpoint, Err(reached.into())));
        }
        match work {
            Ok(Work::Ask(question, respond)) => match api.shards.ask(question) {
                Ok(call) => Begun::Running(Running { endpoint, state: State::Asked(call, Some(respond)) }),
                Err(overloaded) => Begun::Done(finish(endpoint, Err(Refused::from(overloaded).into()))),
            },
            Ok(Work::Future(mut future)) => match poll_once(&mut future).await {
                Some(result) => Begun::Done(finish(endpoint, result)),
                None => Begun::Running(Running { endpoint, state: State::Future(future) }),
            },
            Ok(Work::Ready(response)) => Begun::Done(finish(endpoint, Ok(response))),
            Err(problem) => Begun::Done(finish(endpoint, Err(problem))),
        }
    }
}

/// A request under way. Its response comes by awaiting it.
pub struct Running {
    endpoint: Option<&'static Endpoint>,
    state: State,
}

enum State {
    /// `None` once the reply has come.
    Asked(Call, Option<Respond>),
    Future(BoxedFuture),
}

impl Future for Running {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let result = match &mut self.state {
            State::Asked(call, respond) => {
                let reply = ready!(Pin::new(call).poll(context));
                let respond = respond.take().expect("a reply comes once");
                reply.map(respond).map_err(Problem::from)
            }
            State::Future(future) => ready!(future.as_mut().poll(context)),
        };
        Poll::Ready(finish(self.endpoint, result))
    }
}

fn finish(endpoint: Option<&'static Endpoint>, result: Result<Response, Problem>) -> Response {
    if let Some(endpoint) = endpoint {
        contract::check(endpoint, &result);
    }
    result.unwrap_or_else(Problem::into_response)
}
