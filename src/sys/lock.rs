//! Locks between threads. Zone: call.
//!
//! Taken only while the loader maps or patches, with all signals blocked, so that no handler can meet one held.
//! [`Lock`] spins, and guards what is touched for a moment by a thread that has taken a [`RobustLock`] first, or that is
//! alone. A robust lock outlives its holder: other processes may run in this memory, `vfork` children above all, and
//! any of them can be killed wherever it is. It is a futex with priority inheritance (futex(2)): the word holds the
//! holder's thread id, and the kernel hands the lock of a dead holder to whoever waits (kernel/futex/pi.c).

pub(crate) use spin::mutex::SpinMutex as Lock;

use crate::abi::errno::Errno;
use crate::abi::futex::{LOCK_PI_PRIVATE, OWNER_DIED, UNLOCK_PI_PRIVATE};
use crate::abi::sysno;
use crate::sys::{call, ids, process};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// Looks at a held lock before a thread sleeps: most patches are made in less time.
const SPINS: u32 = 200;
/// The longest sleep in milliseconds. A holder in another pid namespace has an id that means somebody else here, whom
/// the kernel would have us wait for.
const SLEEP: u64 = 20;

/// A lock that survives the death of its holder.
#[derive(Debug)]
pub(crate) struct RobustLock<T> {
    /// 0, or the holder's thread id and the kernel's `FUTEX_WAITERS` and `FUTEX_OWNER_DIED`.
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, and there is one guard at a time.
unsafe impl<T: Send> Sync for RobustLock<T> {}

/// Access to what a [`RobustLock`] guards.
#[derive(Debug)]
pub(crate) struct RobustGuard<'a, T> {
    lock: &'a RobustLock<T>,
    thread: u32,
    is_inherited: bool,
}

impl<T> RobustLock<T> {
    /// A free lock around `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self { word: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Takes the lock. The calling thread must not hold it.
    pub(crate) fn lock(&self) -> RobustGuard<'_, T> {
        // Not 0, which is nobody, where a filter of the program's forbids to ask.
        let thread = ids::thread_id().max(1);
        for _ in 0..SPINS {
            if self.exchange(0, thread) {
                return RobustGuard { lock: self, thread, is_inherited: false };
            }
            core::hint::spin_loop();
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == 0 && self.exchange(0, thread) {
                return RobustGuard { lock: self, thread, is_inherited: false };
            }
            match self.sleep() {
                Ok(()) => {
                    let is_inherited = self.word.load(Ordering::Relaxed) & OWNER_DIED != 0;
                    return RobustGuard { lock: self, thread, is_inherited };
                }
                // The holder died before anybody waited.
                Err(Errno::ESRCH) if self.exchange(seen, thread) => {
                    return RobustGuard { lock: self, thread, is_inherited: true };
                }
                Err(_) => core::hint::spin_loop(),
            }
        }
    }

    /// Whether somebody holds it, dead or alive.
    pub(crate) fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }

    /// Frees it, whoever holds it.
    ///
    /// # Safety
    ///
    /// The holder will never run again, and nobody waits: the memory is a forked child's.
    pub(crate) unsafe fn force_unlock(&self) {
        self.word.store(0, Ordering::Release);
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        self.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn sleep(&self) -> Result<(), Errno> {
        let until = process::real_time_after(SLEEP);
        let at = self.word.as_ptr().expose_provenance() as u64;
        let until = (&raw const until).expose_provenance() as u64;
        // SAFETY: the kernel reads the time and changes the word as the protocol of the futex says.
        unsafe { call(sysno::FUTEX, [at, LOCK_PI_PRIVATE, 0, until, 0, 0]) }.map(drop)
    }

    fn unlock(&self, thread: u32) {
        if self.word.compare_exchange(thread, 0, Ordering::Release, Ordering::Relaxed).is_ok() {
            return;
        }
        let at = self.word.as_ptr().expose_provenance() as u64;
        // SAFETY: the kernel changes the word as the protocol of the futex says.
        if unsafe { call(sysno::FUTEX, [at, UNLOCK_PI_PRIVATE, 0, 0, 0, 0]) }.is_err() {
            // Whoever waits does so for the wrong thread, and looks again after `SLEEP`.
            self.word.store(0, Ordering::Release);
        }
    }
}

impl<T> RobustGuard<'_, T> {
    /// Whether the former holder died, and may have left the value halfway.
    #[must_use]
    pub(crate) const fn is_inherited(&self) -> bool {
        self.is_inherited
    }
}

impl<T> Deref for RobustGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held as long as the guard lives.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for RobustGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held as long as the guard lives, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for RobustGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.unlock(self.thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn counts_of_many_threads_add_up() {
        let lock = Arc::new(RobustLock::new(0_u32));
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || (0..10_000).for_each(|_| *lock.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock(), 40_000);
        assert!(!lock.is_locked());
    }

    #[test]
    fn a_dead_holders_lock_is_inherited_by_those_who_wait() {
        let lock = Arc::new(RobustLock::new(()));
        let held = Arc::clone(&lock);
        let holder = std::thread::spawn(move || {
            core::mem::forget(held.lock());
            std::thread::sleep(core::time::Duration::from_millis(30));
        });
        while !lock.is_locked() {
            std::thread::yield_now();
        }
        assert!(lock.lock().is_inherited());
        holder.join().unwrap();
        assert!(!lock.lock().is_inherited());
    }

    #[test]
    fn a_dead_holders_lock_is_inherited_by_those_who_come_later() {
        let lock = Arc::new(RobustLock::new(()));
        let held = Arc::clone(&lock);
        std::thread::spawn(move || core::mem::forget(held.lock())).join().unwrap();
        assert!(lock.lock().is_inherited());
        assert!(!lock.is_locked());
    }
}
