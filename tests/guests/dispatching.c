// Syscall User Dispatch, as emulators use it: a thread gets SIGSYS in place of its calls, unless they come from a range of
// addresses or its selector lets them through. The handler finds the call in its frame and leaves a result there.
//@ build: gcc -O2 -pthread dispatching.c -o $OUT
//@ build: gcc -O2 -pthread -static dispatching.c -o $OUT
//@ build: musl-gcc -O2 -pthread -static dispatching.c -o $OUT
//@ modes: plain summary trace
#include "dispatching.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>

static void say_result(const char *what, long mode, uint64_t start, uint64_t len, volatile void *at) {
    errno = 0;
    long result = prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, start, len, at);
    printf("%s: %ld %s\n", what, result, strerror(errno));
    CHECK_EQUAL(dispatch_off(), 0);
}

static void parameters(void) {
    say_result("off", 0, 0, 0, 0);
    say_result("off with a start", 0, 1, 0, 0);
    say_result("off with a length", 0, 0, 1, 0);
    say_result("off with a selector", 0, 0, 0, &selector);
    say_result("on for nothing but the selector", 1, 0, 0, &selector);
    say_result("a length from 0 on", 1, 0, 16, &selector);
    say_result("a start without length", 1, 1, 0, &selector);
    say_result("a range that wraps", 1, 0x1000, -1, &selector);
    say_result("a range to the end", 1, 0x1000, -0x1000, &selector);
    say_result("a range short of the end", 1, 0x1000, -0x1001, &selector);
    // With these it ends only where nobody asks them.
    say_result("an unmapped selector", 1, 1, -2, (void *)0x10);
    say_result("the highest selector", 1, 1, -2, (void *)0x7fffffffefff);
    say_result("a selector that is none", 1, 1, -2, (void *)-1);
    say_result("one in the hole", 1, 1, -2, (void *)(1ul << 62));
    say_result("both wrong", 1, 1, 0, (void *)-1);
    say_result("calls of an empty range", 2, 0, 0, &selector);
    say_result("calls of a range that wraps", 2, 1, -1, &selector);
    say_result("calls of a range that is none", 2, 1, -1, (void *)-1);
    say_result("an unknown mode", 3, 0, 0, &selector);
    say_result("a negative one", -1, 0, 0, &selector);
    say_result("a high one", 1l << 32, 0, 0, &selector);
    CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 2, 1, -1l, (void *)-1), -1);
}

static void registers(void) {
    arm(0, 0, &selector);
    selector = BLOCK;
    result = -12345;
    long got = other_call(0x1055, 11, 22, 33);
    CHECK_EQUAL(selector, ALLOW); // the handler has opened it
    CHECK_EQUAL(got, -12345);
    CHECK_EQUAL(seen.count, 1);
    CHECK_EQUAL(seen.info.si_signo, SIGSYS);
    CHECK_EQUAL(seen.info.si_errno, 0);
    CHECK_EQUAL(seen.info.si_code, 2 /* SYS_USER_DISPATCH */);
    CHECK_EQUAL(seen.info.si_call_addr, other_end);
    CHECK_EQUAL(seen.info.si_syscall, 0x1055);
    CHECK_EQUAL(seen.info.si_arch, 0xc000003e);
    CHECK_EQUAL(seen.regs[REG_RIP], other_end);
    CHECK_EQUAL(seen.regs[REG_RAX], 0x1055);
    CHECK_EQUAL(seen.regs[REG_RDI], 11);
    CHECK_EQUAL(seen.regs[REG_RSI], 22);
    CHECK_EQUAL(seen.regs[REG_RDX], 33);
    CHECK_EQUAL(seen.regs[REG_R10], 77);
    CHECK_EQUAL(seen.regs[REG_RCX], other_end);
    CHECK_EQUAL(seen.regs[REG_R11] & ~0x100, seen.regs[REG_EFL] & ~0x10100);
    CHECK(seen.stack < (uintptr_t)seen.regs[REG_RSP]);

    // A call that there is: made with the selector open only.
    selector = BLOCK;
    result = 4711;
    CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), 4711);
    CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), getppid());
    CHECK_EQUAL(seen.count, 2);

    double before = 1.5, after;
    selector = BLOCK;
    __asm__ volatile("movsd %2, %%xmm13\n mov %3, %%eax\n syscall\n movsd %%xmm13, %1"
                     : "=&a"(result), "=m"(after)
                     : "m"(before), "i"(SYS_getppid)
                     : "rcx", "r11", "xmm13", "memory");
    CHECK(after == 1.5 && seen.count == 3);
    CHECK_EQUAL(dispatch_off(), 0);
}

/* The site's own address counts, and of that the one after the instruction. */
static void ranges(void) {
    uint64_t start = (uintptr_t)range_start, len = trusted_end - range_start;
    result = -1;
    arm(start, len + 1, 0); // no selector: everything else is dispatched
    long inside = trusted_call(SYS_getppid, 0, 0, 0), outside = other_call(SYS_getppid, 0, 0, 0);
    trusted_call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, 0, 0);
    CHECK_EQUAL(inside, getppid());
    CHECK_EQUAL(outside, -1);

    arm(start, len + 1, &selector);
    selector = BLOCK;
    inside = trusted_call(SYS_getppid, 0, 0, 0), outside = other_call(SYS_getppid, 0, 0, 0);
    CHECK_EQUAL(selector, ALLOW);
    CHECK_EQUAL(inside, getppid());
    CHECK_EQUAL(outside, -1);

    arm(start, len, &selector); // one byte too short
    selector = BLOCK;
    CHECK_EQUAL(trusted_call(SYS_getppid, 0, 0, 0), -1);
    CHECK_EQUAL(dispatch_off(), 0);

    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 2, start, len + 1, &selector) == 0) {
        selector = BLOCK;
        CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), getppid());
        CHECK_EQUAL(selector, BLOCK);
        CHECK_EQUAL(trusted_call(SYS_getppid, 0, 0, 0), -1);
        CHECK_EQUAL(selector, ALLOW);
        CHECK_EQUAL(dispatch_off(), 0);
    }
}

__asm__(".pushsection .text\n .globl int80_call, int80_end\n .type int80_call, @function\n"
        "int80_call: mov %edi, %eax\n int $0x80\n int80_end: ret\n .size int80_call, . - int80_call\n .popsection\n");
extern char int80_end[];
long int80_call(int nr);

/* Calls of the other table are dispatched too. */
static void other_table(void) {
    arm(0, 0, &selector);
    result = -7;
    for (int round = 0; round < 3; round++) {
        selector = BLOCK;
        CHECK_EQUAL(int80_call(20), -7);
        CHECK_EQUAL(seen.info.si_call_addr, int80_end);
        CHECK_EQUAL(seen.info.si_syscall, 20);
        CHECK_EQUAL(seen.info.si_arch, 0x40000003);
        CHECK_EQUAL(seen.regs[REG_RIP], int80_end);
        CHECK_EQUAL(seen.regs[REG_RAX], 20);
        CHECK_EQUAL(int80_call(20), getpid());
    }
    CHECK_EQUAL(dispatch_off(), 0);
}

/* So are those of code that is written while it can be executed. */
static void written_code(void) {
    static const unsigned char code[] = {0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0xc3};
    int rights = PROT_READ | PROT_WRITE | PROT_EXEC;
    char *page = mmap(0, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    long (*call)(void) = (long (*)(void))page;
    arm(0, 0, &selector);
    result = -8;
    for (int round = 0; round < 3; round++) {
        selector = BLOCK;
        CHECK_EQUAL(call(), -8);
        CHECK_EQUAL(seen.info.si_call_addr, page + 7);
        CHECK_EQUAL(call(), getppid());
    }
    CHECK_EQUAL(dispatch_off(), 0);
    CHECK(munmap(page, 4096) == 0);
}

/* The call that ends it is one like any other. */
static void end_of_it(void) {
    arm(0, 0, &selector);
    int before = seen.count;
    result = -99;
    selector = BLOCK;
    CHECK_EQUAL(other_call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, 0, 0), -99);
    selector = BLOCK;
    CHECK_EQUAL(other_call(SYS_gettid, 0, 0, 0), -99);
    CHECK_EQUAL(seen.count, before + 2);
    CHECK_EQUAL(dispatch_off(), 0);
    selector = BLOCK;
    CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), getppid());
    CHECK_EQUAL(seen.count, before + 2);
    selector = ALLOW;
}

static int deaths(int how) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
        char *gone = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *byte = (char *)&selector;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGSYS);
        switch (how) {
        case 0: action.sa_handler = SIG_DFL; break;
        case 1: action.sa_handler = SIG_IGN; break;
        case 2: sigprocmask(SIG_BLOCK, &set, 0); break;
        case 3: byte = gone; break;
        case 4: action.sa_flags |= SA_RESETHAND; break;
        }
        CHECK(sigaction(SIGSYS, &action, 0) == 0);
        action.sa_flags = SA_SIGINFO, action.sa_sigaction = on_sigsys;
        CHECK(sigaction(SIGSEGV, &action, 0) == 0);
        CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, byte), 0);
        if (how == 3) munmap(gone, 4096);
        if (how == 4) selector = BLOCK, other_call(SYS_getppid, 0, 0, 0);
        selector = how == 5 ? 2 : BLOCK;
        other_call(SYS_getppid, 0, 0, 0);
        selector = ALLOW;
        trusted_call(SYS_exit_group, 3, 0, 0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static volatile long told;

static void *newcomer(void *unused) {
    (void)unused;
    selector = BLOCK; // the other thread's
    told = other_call(SYS_getppid, 0, 0, 0);
    selector = ALLOW;
    return 0;
}

/* They start with nothing dispatched. */
static void threads_and_children(void) {
    pthread_t thread;
    int before = seen.count, status;
    arm(0, 0, &selector);
    CHECK(pthread_create(&thread, 0, newcomer, 0) == 0);
    pthread_join(thread, 0);
    CHECK_EQUAL(told, getppid());
    CHECK_EQUAL(seen.count, before);

    pid_t self = getpid(), child = fork();
    if (child == 0) {
        selector = BLOCK;
        long parent = other_call(SYS_getppid, 0, 0, 0);
        selector = ALLOW;
        _exit(parent != self || seen.count != before);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);

    child = vfork();
    if (child == 0) {
        selector = BLOCK;
        told = other_call(SYS_getppid, 0, 0, 0);
        selector = ALLOW;
        // What it asks for is its own.
        prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 1, -2l, 0);
        _exit(seen.count != before);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_EQUAL(told, self);

    selector = BLOCK; // and here nothing has changed
    CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), result);
    CHECK_EQUAL(seen.count, before + 1);
    CHECK_EQUAL(dispatch_off(), 0);
}

static __thread volatile char own_selector;
static __thread volatile int own_count;

static void on_own_sigsys(int number, siginfo_t *info, void *frame) {
    CHECK(number == SIGSYS && own_selector == BLOCK);
    own_selector = ALLOW;
    own_count++;
    ((ucontext_t *)frame)->uc_mcontext.gregs[REG_RAX] = info->si_syscall + 1;
}

static void *dispatched_thread(void *unused) {
    (void)unused;
    CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &own_selector), 0);
    pid_t parent = getppid();
    for (int round = 0; round < 2000; round++) {
        own_selector = BLOCK;
        CHECK_EQUAL(other_call(0x2000 + round, 0, 0, 0), 0x2001 + round);
        CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), parent);
    }
    CHECK_EQUAL(own_count, 2000);
    return 0;
}

static void ignore(int number) { (void)number; }

/* Each with a selector of its own, one of them with a timer that interrupts it. */
static void threads_at_once(void) {
    pthread_t threads[4];
    struct sigaction action = {.sa_sigaction = on_own_sigsys, .sa_flags = SA_SIGINFO}, timer = {.sa_handler = ignore};
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGSYS, &action, 0) == 0 && sigaction(SIGALRM, &timer, 0) == 0);
    for (int index = 0; index < 4; index++) CHECK(pthread_create(&threads[index], 0, dispatched_thread, 0) == 0);
    for (int index = 0; index < 4; index++) CHECK(pthread_join(threads[index], 0) == 0);

    // The timer's handler returns while the selector is closed: by a restorer from which calls are made.
    uint64_t start = (uintptr_t)own_restorer;
    install(on_own_sigsys, SA_SIGINFO);
    install_for(SIGALRM, ignore, SA_RESTART);
    CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, start, 32, &own_selector), 0);
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    own_count = 0;
    for (int round = 0; round < 20000; round++) {
        own_selector = BLOCK;
        CHECK_EQUAL(other_call(0x3000 + round, 0, 0, 0), 0x3001 + round);
    }
    CHECK(own_count == 20000 && setitimer(ITIMER_REAL, &never, 0) == 0);
    CHECK_EQUAL(dispatch_off(), 0);
}

static void *leaver(void *unused) {
    (void)unused;
    CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &own_selector), 0);
    return 0;
}

/* Threads that never turn it off take it along. */
static void threads_that_end(void) {
    pthread_t thread;
    for (int round = 0; round < 3000; round++)
        CHECK(pthread_create(&thread, 0, leaver, 0) == 0 && pthread_join(thread, 0) == 0);
}

static volatile int depth;

static void on_nested(int number, siginfo_t *info, void *frame) {
    char here;
    CHECK_EQUAL(number, SIGSYS);
    selector = ALLOW;
    CHECK_EQUAL(getppid(), syscall(SYS_getppid));
    int own = ++depth;
    uintptr_t sp = ((ucontext_t *)frame)->uc_mcontext.gregs[REG_RSP];
    CHECK(own == 1 || (sp > (uintptr_t)&here && sp - (uintptr_t)&here < 8192));
    if (own < 4) {
        selector = BLOCK;
        CHECK_EQUAL(other_call(0x4000 + own, 0, 0, 0), 0x4000 + own + 1);
        CHECK_EQUAL(selector, ALLOW);
    }
    ((ucontext_t *)frame)->uc_mcontext.gregs[REG_RAX] = info->si_syscall + 1;
}

/* In the handler, on an alternate stack or not, calls are made and dispatched again. */
static void nested(void) {
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory}, none = {.ss_flags = SS_DISABLE};
    CHECK(sigaltstack(&stack, 0) == 0);
    for (int on_stack = 0; on_stack < 2; on_stack++) {
        install(on_nested, SA_SIGINFO | SA_NODEFER | (on_stack ? SA_ONSTACK : 0));
        CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector), 0);
        depth = 0;
        selector = BLOCK;
        CHECK_EQUAL(other_call(0x4000, 0, 0, 0), 0x4001);
        CHECK_EQUAL(depth, 4);
        CHECK_EQUAL(dispatch_off(), 0);
    }
    CHECK(sigaltstack(&none, 0) == 0);
}

static sigjmp_buf start_again;

static void on_jump(int number, siginfo_t *info, void *frame) {
    (void)frame;
    CHECK(number == SIGSYS && info->si_syscall == 0x5000);
    selector = ALLOW;
    siglongjmp(start_again, 1);
}

static void jumps(void) {
    volatile int rounds = 0;
    install(on_jump, SA_SIGINFO);
    CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector), 0);
    sigsetjmp(start_again, 1);
    if (rounds++ < 1000) {
        selector = BLOCK;
        other_call(0x5000, 0, 0, 0);
        CHECK(0);
    }
    CHECK_EQUAL(dispatch_off(), 0);
}

/* Nothing of it is left in the next program, and nothing when nobody asks for it any more. */
static void successor(char *self) {
    char *words[] = {self, "successor", 0};
    char program[512];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(len > 0);
    program[len] = 0;
    arm((uintptr_t)range_start, trusted_end - range_start + 1, &selector);
    selector = BLOCK;
    trusted_call(SYS_execve, (uintptr_t)"/nonexistent", (uintptr_t)words, (uintptr_t)environ);
    int before = seen.count;
    CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), result); // still there
    CHECK_EQUAL(seen.count, before + 1);
    fflush(stdout);
    selector = BLOCK;
    trusted_call(SYS_execve, (uintptr_t)program, (uintptr_t)words, (uintptr_t)environ);
    CHECK(0);
}

int main(int count, char **words) {
    if (count > 1) {
        selector = BLOCK;
        CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), getppid());
        return pass();
    }
    parameters();
    registers();
    ranges();
    other_table();
    written_code();
    end_of_it();
    for (int how = 0; how <= 5; how++) printf("%d\n", deaths(how));
    threads_and_children();
    threads_at_once();
    threads_that_end();
    nested();
    jumps();
    successor(words[0]);
}
