"""The pool: threads of its own that share the pieces of a program's phases with the threads that run programs.

A *phase* is a range of pieces, a *piece* a range of calls in the table. Phases are done one after another. A phase of one
piece is done by the thread that runs the program. For a phase of several, that thread takes a *job* from a fixed array,
fills it in, opens it for the workers, and takes pieces itself until none is left; then it closes the job, waits for the
workers that are still in it, and gives it back. So any number of threads may run programs at once, and none ever waits for
a worker that has not begun.

    pieces     are handed out in order by an atomic counter, so when a call fails, all pieces before its own have been
               handed out: the least failed call is the one that would have failed with one thread. The rest is not begun.
    visitors   a worker adds itself to a job's visitors before it looks whether the job is open; the owner closes the job
               before it looks whether there are visitors (both sequentially consistent: one of them sees the other).
               Jobs are never freed, so a late worker finds a closed job, or the next one, whose words are complete.
    waiting    is spinning for some microseconds, then sleeping. Who would sleep says so first and looks again; who has news
               looks for sleepers after having told (`epoch`, `visitors`). Each thread that enters a job wakes up to two.

Workers are native threads without any Python state, started when a program first wants them, with all signals blocked;
they end with the process. In a forked child there are none: `jg.pool.reset` makes the pool new.
"""

from __future__ import annotations

import signal

from .driver import PHASE_COUNT, PHASES, PIECES, PRIVATE_BYTES, PRIVATE_SLOT, SLOTS, THREADS, calls_source
from .processor import processor_source, spins

PARALLEL_SYMBOL = "jg.parallel"
RESET_SYMBOL = "jg.pool.reset"

JOBS = 64                # threads that can share work at once; another one works alone
STACK_BYTES = 4 << 20
IMPORTED = {  # symbol -> signature
    "pthread_create": "i32 (ptr, ptr, ptr, ptr)",
    "pthread_detach": "i32 (ptr)",
    "pthread_attr_init": "i32 (ptr)",
    "pthread_attr_setstacksize": "i32 (ptr, i64)",
    "pthread_attr_destroy": "i32 (ptr)",
    "pthread_mutex_init": "i32 (ptr, ptr)",
    "pthread_mutex_lock": "i32 (ptr)",
    "pthread_mutex_unlock": "i32 (ptr)",
    "pthread_cond_init": "i32 (ptr, ptr)",
    "pthread_cond_wait": "i32 (ptr, ptr)",
    "pthread_cond_signal": "i32 (ptr)",
    "pthread_cond_broadcast": "i32 (ptr)",
    "pthread_sigmask": "i32 (i32, ptr, ptr)",
    "sigfillset": "i32 (ptr)",
}

# The pool's words, what is written by different threads in lines of its own (two lines of 64 bytes are fetched together).
_EPOCH, _OPEN, _USED, _STARTED, _ASKED, _SLEEPERS, _MUTEX, _NEWS, _LEFT, _FIRST_JOB = 0, 16, 17, 32, 33, 48, 64, 80, 96, 112
# A job's words.
_BASES, _PROGRAM, _END, _ROOM, _MODE, _NEXT, _FAILED, _VISITORS, _TICKETS, _ASLEEP, _JOB = 0, 1, 2, 3, 4, 16, 17, 32, 33, 34, 48


def pool_source(triple: str) -> str:
    """`i64 jg.parallel(bases, program)`, which is what the driver calls, and `void jg.pool.reset()`."""
    declarations = [
        processor_source(triple),
        "declare i64 @llvm.cttz.i64(i64, i1)",
        "declare i64 @llvm.smin.i64(i64, i64)",
    ]
    for name, signature in IMPORTED.items():
        result, arguments = signature.split(" ", 1)
        declarations.append(f"declare {result} @{name}{arguments}")
    functions = (_calls(), _start(), _wake(), _take(), _help(), _visit(), _look(), _worker(), _settle(), _phase(), _parallel())
    text = "\n".join([*declarations, _globals(), _reset(), *functions])
    return text.replace("<spins>", str(spins(triple)))


def _globals() -> str:
    return f"@jg.pool = internal global [{_FIRST_JOB + JOBS * _JOB} x i64] zeroinitializer, align 128"


def _pool(word: int) -> str:
    """The address of one of the pool's words."""
    return f"getelementptr (i64, ptr @jg.pool, i64 {word})"


def _words(pointer: str, **words: int) -> str:
    """Addresses of words after %pointer, under these names."""
    return "\n".join(f"  %{name} = getelementptr i64, ptr %{pointer}, i64 {word}" for name, word in words.items())


def _reset() -> str:
    return f"""
define void @{RESET_SYMBOL}() {{
  br label %clear
clear:
  %k = phi i64 [ 0, %0 ], [ %next, %clear ]
  %word = getelementptr i64, ptr @jg.pool, i64 %k
  store i64 0, ptr %word
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, {_FIRST_JOB + JOBS * _JOB}
  br i1 %more, label %clear, label %rest
rest:
  call i32 @pthread_mutex_init(ptr {_pool(_MUTEX)}, ptr null)
  call i32 @pthread_cond_init(ptr {_pool(_NEWS)}, ptr null)
  call i32 @pthread_cond_init(ptr {_pool(_LEFT)}, ptr null)
  ret void
}}"""


def _calls() -> str:
    """One piece."""
    return f"""
define internal i64 @jg.piece(ptr %bases, ptr %program, i64 %piece) {{
entry:
  %table = load ptr, ptr %program
  %piecesp = getelementptr i64, ptr %program, i64 {PIECES}
  %pieces = load ptr, ptr %piecesp
  %firstp = getelementptr i64, ptr %pieces, i64 %piece
  %endp = getelementptr i64, ptr %firstp, i64 1
  %first = load i64, ptr %firstp
  %end = load i64, ptr %endp
{calls_source()}
}}"""


def _start() -> str:
    """Starts workers until there are `wanted`. Where the system gives no more, it is not asked again for as many."""
    return f"""
define internal void @jg.start(i64 %wanted) {{
  %asked = load atomic i64, ptr {_pool(_ASKED)} monotonic, align 8
  %enough = icmp sge i64 %asked, %wanted
  br i1 %enough, label %done, label %lock
lock:
  %all = alloca [128 x i8], align 16
  %old = alloca [128 x i8], align 16
  %attr = alloca [128 x i8], align 16
  %thread = alloca ptr
  call i32 @pthread_mutex_lock(ptr {_pool(_MUTEX)})
  %before = load i64, ptr {_pool(_ASKED)}
  %newer = icmp sgt i64 %wanted, %before
  br i1 %newer, label %begin, label %unlock
begin:
  store atomic i64 %wanted, ptr {_pool(_ASKED)} monotonic, align 8
  call i32 @sigfillset(ptr %all)
  call i32 @pthread_sigmask(i32 {int(signal.SIG_SETMASK)}, ptr %all, ptr %old)
  call i32 @pthread_attr_init(ptr %attr)
  call i32 @pthread_attr_setstacksize(ptr %attr, i64 {STACK_BYTES})
  br label %next
next:
  %there = load i64, ptr {_pool(_STARTED)}
  %more = icmp slt i64 %there, %wanted
  br i1 %more, label %create, label %end
create:
  %failed = call i32 @pthread_create(ptr %thread, ptr %attr, ptr @jg.worker, ptr null)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %created, label %end
created:
  %id = load ptr, ptr %thread
  call i32 @pthread_detach(ptr %id)
  %started = add i64 %there, 1
  store i64 %started, ptr {_pool(_STARTED)}
  br label %next
end:
  call i32 @pthread_attr_destroy(ptr %attr)
  call i32 @pthread_sigmask(i32 {int(signal.SIG_SETMASK)}, ptr %old, ptr null)
  br label %unlock
unlock:
  call i32 @pthread_mutex_unlock(ptr {_pool(_MUTEX)})
  br label %done
done:
  ret void
}}"""


def _wake() -> str:
    """Wakes up to two sleepers if the job has pieces and room for them."""
    return f"""
define internal void @jg.wake(ptr %job) {{
  %sleepers = load atomic i64, ptr {_pool(_SLEEPERS)} seq_cst, align 8
  %none = icmp eq i64 %sleepers, 0
  br i1 %none, label %done, label %count
count:
  %pieces = call i64 @jg.pieces(ptr %job)
  %room = call i64 @jg.room(ptr %job)
  %least = call i64 @llvm.smin.i64(i64 %pieces, i64 %room)
  %wanted = call i64 @llvm.smin.i64(i64 %least, i64 %sleepers)
  %some = icmp sgt i64 %wanted, 0
  br i1 %some, label %signal, label %done
signal:
  call i32 @pthread_mutex_lock(ptr {_pool(_MUTEX)})
  call i32 @pthread_mutex_unlock(ptr {_pool(_MUTEX)})
  call i32 @pthread_cond_signal(ptr {_pool(_NEWS)})
  %several = icmp sgt i64 %wanted, 1
  br i1 %several, label %second, label %done
second:
  call i32 @pthread_cond_signal(ptr {_pool(_NEWS)})
  br label %done
done:
  ret void
}}

define internal i64 @jg.pieces(ptr %job) {{
{_words("job", nextp=_NEXT, endp=_END)}
  %next = load atomic i64, ptr %nextp monotonic, align 8
  %end = load atomic i64, ptr %endp monotonic, align 8
  %left = sub i64 %end, %next
  ret i64 %left
}}

define internal i64 @jg.room(ptr %job) {{
{_words("job", ticketsp=_TICKETS, roomp=_ROOM)}
  %tickets = load atomic i64, ptr %ticketsp monotonic, align 8
  %room = load atomic i64, ptr %roomp monotonic, align 8
  %left = sub i64 %room, %tickets
  ret i64 %left
}}"""


def _take() -> str:
    """Does pieces of the job until none is left; after a failure, no more are handed out."""
    return f"""
define internal void @jg.take(ptr %job, ptr %bases) {{
{_words("job", nextp=_NEXT, endp=_END, failedp=_FAILED, programp=_PROGRAM)}
  %end = load atomic i64, ptr %endp monotonic, align 8
  %program = load ptr, ptr %programp
  br label %next
next:
  %piece = atomicrmw add ptr %nextp, i64 1 monotonic
  %more = icmp slt i64 %piece, %end
  br i1 %more, label %run, label %done
run:
  %status = call i64 @jg.piece(ptr %bases, ptr %program, i64 %piece)
  %ok = icmp eq i64 %status, 0
  br i1 %ok, label %next, label %failed
failed:
  %least = atomicrmw umin ptr %failedp, i64 %status monotonic
  store atomic i64 %end, ptr %nextp monotonic, align 8
  br label %done
done:
  ret void
}}"""


def _help() -> str:
    """A worker's part in a job: in the floating-point mode of the job's owner, with base addresses of its own, as its
    private memory is the one of this number."""
    return f"""
define internal void @jg.help(ptr %job, i64 %number) noinline {{
{_words("job", basesp=_BASES, programp=_PROGRAM, modep=_MODE)}
  call void @jg.set_mode(ptr %modep)
  %bases = load ptr, ptr %basesp
  %program = load ptr, ptr %programp
{_words("program", slotsp=SLOTS, privatep=PRIVATE_SLOT, bytesp=PRIVATE_BYTES)}
  %slots = load i64, ptr %slotsp
  %private = load i64, ptr %privatep
  %bytes = load i64, ptr %bytesp
  %own = alloca ptr, i64 %slots
  br label %copy
copy:
  %k = phi i64 [ 0, %0 ], [ %next, %copy ]
  %from = getelementptr ptr, ptr %bases, i64 %k
  %to = getelementptr ptr, ptr %own, i64 %k
  %base = load ptr, ptr %from
  store ptr %base, ptr %to
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %slots
  br i1 %more, label %copy, label %copied
copied:
  %memoryp = getelementptr ptr, ptr %own, i64 %private
  %first = load ptr, ptr %memoryp
  %offset = mul i64 %bytes, %number
  %memory = getelementptr i8, ptr %first, i64 %offset
  store ptr %memory, ptr %memoryp
  call void @jg.take(ptr %job, ptr %own)
  ret void
}}"""


def _visit() -> str:
    """Enters the job if it is open and has room; whether it had. `mask` is the job's bit."""
    return f"""
define internal i1 @jg.visit(ptr %job, i64 %mask) {{
{_words("job", visitorsp=_VISITORS, ticketsp=_TICKETS, roomp=_ROOM, asleepp=_ASLEEP)}
  %others = atomicrmw add ptr %visitorsp, i64 1 seq_cst
  %open = load atomic i64, ptr {_pool(_OPEN)} seq_cst, align 8
  %bit = and i64 %open, %mask
  %is_open = icmp ne i64 %bit, 0
  br i1 %is_open, label %ask, label %leave
ask:
  %ticket = atomicrmw add ptr %ticketsp, i64 1 monotonic
  %room = load atomic i64, ptr %roomp monotonic, align 8
  %fits = icmp slt i64 %ticket, %room
  br i1 %fits, label %enter, label %leave
enter:
  call void @jg.wake(ptr %job)
  %number = add i64 %ticket, 1
  call void @jg.help(ptr %job, i64 %number)
  br label %leave
leave:
  %entered = phi i1 [ false, %0 ], [ false, %ask ], [ true, %enter ]
  %inside = atomicrmw sub ptr %visitorsp, i64 1 seq_cst
  %is_last = icmp eq i64 %inside, 1
  br i1 %is_last, label %last, label %done
last:
  %asleep = load atomic i64, ptr %asleepp seq_cst, align 8
  %waits = icmp ne i64 %asleep, 0
  br i1 %waits, label %tell, label %done
tell:
  call i32 @pthread_mutex_lock(ptr {_pool(_MUTEX)})
  call i32 @pthread_mutex_unlock(ptr {_pool(_MUTEX)})
  call i32 @pthread_cond_broadcast(ptr {_pool(_LEFT)})
  br label %done
done:
  ret i1 %entered
}}"""


def _look() -> str:
    """Enters an open job that seems to have pieces and room; whether there was one."""
    return f"""
define internal i1 @jg.look() {{
entry:
  %open = load atomic i64, ptr {_pool(_OPEN)} seq_cst, align 8
  br label %next
next:
  %left = phi i64 [ %open, %entry ], [ %others, %check ], [ %others, %enter ]
  %none = icmp eq i64 %left, 0
  br i1 %none, label %nothing, label %check
check:
  %k = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %mask = shl i64 1, %k
  %others = xor i64 %left, %mask
  %offset = mul i64 %k, {_JOB}
  %at = add i64 %offset, {_FIRST_JOB}
  %job = getelementptr i64, ptr @jg.pool, i64 %at
  %pieces = call i64 @jg.pieces(ptr %job)
  %room = call i64 @jg.room(ptr %job)
  %least = call i64 @llvm.smin.i64(i64 %pieces, i64 %room)
  %some = icmp sgt i64 %least, 0
  br i1 %some, label %enter, label %next
enter:
  %entered = call i1 @jg.visit(ptr %job, i64 %mask)
  br i1 %entered, label %found, label %next
found:
  ret i1 true
nothing:
  ret i1 false
}}"""


def _worker() -> str:
    """What a worker does all its life."""
    return f"""
define internal ptr @jg.worker(ptr %unused) {{
  br label %look
look:
  %seen = load atomic i64, ptr {_pool(_EPOCH)} seq_cst, align 8
  %found = call i1 @jg.look()
  br i1 %found, label %look, label %spin
spin:
  %k = phi i64 [ 0, %look ], [ %next, %quiet ]
  %now = load atomic i64, ptr {_pool(_EPOCH)} monotonic, align 8
  %same = icmp eq i64 %now, %seen
  br i1 %same, label %quiet, label %look
quiet:
  call void @jg.pause()
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, <spins>
  br i1 %more, label %spin, label %sleep
sleep:
  call i32 @pthread_mutex_lock(ptr {_pool(_MUTEX)})
  %said = atomicrmw add ptr {_pool(_SLEEPERS)}, i64 1 seq_cst
  br label %again
again:
  %later = load atomic i64, ptr {_pool(_EPOCH)} seq_cst, align 8
  %still = icmp eq i64 %later, %seen
  br i1 %still, label %wait, label %awake
wait:
  call i32 @pthread_cond_wait(ptr {_pool(_NEWS)}, ptr {_pool(_MUTEX)})
  br label %again
awake:
  %gone = atomicrmw sub ptr {_pool(_SLEEPERS)}, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr {_pool(_MUTEX)})
  br label %look
}}"""


def _settle() -> str:
    """Returns when nobody is in the job, which is closed."""
    return f"""
define internal void @jg.settle(ptr %job) {{
{_words("job", visitorsp=_VISITORS, asleepp=_ASLEEP)}
  br label %spin
spin:
  %k = phi i64 [ 0, %0 ], [ %next, %busy ]
  %inside = load atomic i64, ptr %visitorsp seq_cst, align 8
  %some = icmp ne i64 %inside, 0
  br i1 %some, label %busy, label %done
busy:
  call void @jg.pause()
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, <spins>
  br i1 %more, label %spin, label %sleep
sleep:
  call i32 @pthread_mutex_lock(ptr {_pool(_MUTEX)})
  store atomic i64 1, ptr %asleepp seq_cst, align 8
  br label %again
again:
  %still = load atomic i64, ptr %visitorsp seq_cst, align 8
  %waits = icmp ne i64 %still, 0
  br i1 %waits, label %wait, label %awake
wait:
  call i32 @pthread_cond_wait(ptr {_pool(_LEFT)}, ptr {_pool(_MUTEX)})
  br label %again
awake:
  store atomic i64 0, ptr %asleepp seq_cst, align 8
  call i32 @pthread_mutex_unlock(ptr {_pool(_MUTEX)})
  br label %done
done:
  ret void
}}"""


def _phase() -> str:
    """Shares the pieces from `first` to `end` among up to `threads` threads: the calling one, and workers."""
    return f"""
define internal i64 @jg.phase(ptr %bases, ptr %program, i64 %first, i64 %end, i64 %threads) {{
entry:
  br label %claim
claim:
  %used = load atomic i64, ptr {_pool(_USED)} monotonic, align 8
  %all = icmp eq i64 %used, -1
  br i1 %all, label %alone, label %try
try:
  %free = xor i64 %used, -1
  %bit = call i64 @llvm.cttz.i64(i64 %free, i1 true)
  %mask = shl i64 1, %bit
  %new = or i64 %used, %mask
  %pair = cmpxchg ptr {_pool(_USED)}, i64 %used, i64 %new seq_cst seq_cst
  %claimed = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %claimed, label %fill, label %claim
alone:
  %p = phi i64 [ %first, %claim ], [ %p1, %ok ]
  %left = icmp slt i64 %p, %end
  br i1 %left, label %one, label %fine
one:
  %p1 = add i64 %p, 1
  %its = call i64 @jg.piece(ptr %bases, ptr %program, i64 %p)
  %good = icmp eq i64 %its, 0
  br i1 %good, label %ok, label %bad
ok:
  br label %alone
bad:
  ret i64 %its
fine:
  ret i64 0
fill:
  %offset = mul i64 %bit, {_JOB}
  %at = add i64 %offset, {_FIRST_JOB}
  %job = getelementptr i64, ptr @jg.pool, i64 %at
{_words("job", basesp=_BASES, programp=_PROGRAM, endp=_END, roomp=_ROOM, modep=_MODE)}
{_words("job", nextp=_NEXT, failedp=_FAILED, ticketsp=_TICKETS)}
  %count = sub i64 %end, %first
  %most = call i64 @llvm.smin.i64(i64 %count, i64 %threads)
  %room = sub i64 %most, 1
  store ptr %bases, ptr %basesp
  store ptr %program, ptr %programp
  call void @jg.get_mode(ptr %modep)
  store atomic i64 %end, ptr %endp monotonic, align 8
  store atomic i64 %room, ptr %roomp monotonic, align 8
  store atomic i64 %first, ptr %nextp monotonic, align 8
  store atomic i64 -1, ptr %failedp monotonic, align 8
  store atomic i64 0, ptr %ticketsp monotonic, align 8
  %opened = atomicrmw or ptr {_pool(_OPEN)}, i64 %mask seq_cst
  %told = atomicrmw add ptr {_pool(_EPOCH)}, i64 1 seq_cst
  call void @jg.wake(ptr %job)
  call void @jg.take(ptr %job, ptr %bases)
  %others = xor i64 %mask, -1
  %closed = atomicrmw and ptr {_pool(_OPEN)}, i64 %others seq_cst
  call void @jg.settle(ptr %job)
  %failed = load atomic i64, ptr %failedp monotonic, align 8
  %given = atomicrmw and ptr {_pool(_USED)}, i64 %others seq_cst
  %none = icmp eq i64 %failed, -1
  %status = select i1 %none, i64 0, i64 %failed
  ret i64 %status
}}"""


def _parallel() -> str:
    """The phases of a program."""
    return f"""
define i64 @{PARALLEL_SYMBOL}(ptr %bases, ptr %program) {{
{_words("program", phasesp=PHASES, countp=PHASE_COUNT, threadsp=THREADS)}
  %phases = load ptr, ptr %phasesp
  %count = load i64, ptr %countp
  %threads = load i64, ptr %threadsp
  %workers = sub i64 %threads, 1
  call void @jg.start(i64 %workers)
  br label %phase
phase:
  %k = phi i64 [ 0, %0 ], [ %next, %fine ]
  %firstp = getelementptr [2 x i64], ptr %phases, i64 %k
  %endp = getelementptr i64, ptr %firstp, i64 1
  %first = load i64, ptr %firstp
  %end = load i64, ptr %endp
  %count1 = sub i64 %end, %first
  %single = icmp eq i64 %count1, 1
  br i1 %single, label %one, label %several
one:
  %status1 = call i64 @jg.piece(ptr %bases, ptr %program, i64 %first)
  br label %checked
several:
  %status2 = call i64 @jg.phase(ptr %bases, ptr %program, i64 %first, i64 %end, i64 %threads)
  br label %checked
checked:
  %status = phi i64 [ %status1, %one ], [ %status2, %several ]
  %ok = icmp eq i64 %status, 0
  br i1 %ok, label %fine, label %failed
fine:
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %phase, label %failed
failed:
  ret i64 %status
}}"""
