//! Calls after which the tools might not reach the place that their words go to. Zone: call.

use crate::runtime::gate::step::Step;
use crate::runtime::session::followed::Followed;
use crate::runtime::session::last_words;

/// Before `close`: of its stderr.
pub(crate) fn close(followed: Followed<'_>) -> Step {
    followed.session.output.before_close(followed.call);
    Step::Pass
}

/// Before a call of [`last_words::LEAVING`].
pub(crate) fn leave(followed: Followed<'_>) -> Step {
    last_words::before_leaving(followed.session);
    Step::Pass
}
