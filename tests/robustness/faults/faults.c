/* Counts the calls by which this process changes files under one folder, and makes the n-th of them fail.
 *
 * Preloaded (LD_PRELOAD), it stands between every library of the process and the C library, so that Python, Arrow and
 * Rust are met alike. Nothing is counted before faults_arm. The count lies in memory shared with forked children, so
 * that a parent can read it after a child's death. Of many writes to one file in a row only the first three count: Parquet
 * takes hundreds, and a fault at any of the others leaves the same folder but for bytes of a file that has no name yet.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { GROW = 1, SYNC = 2, NAME = 4 }; /* takes space; flushes; renames or removes */
enum verdict { PASS, FAIL, DIE };

static char root[PATH_MAX];
static long at;           /* the call to fail, from 1; 0 for none */
static int error_number;  /* errno to fail with, or minus a signal to send instead */
static int affected;      /* kinds that are counted */
static int lasting;       /* whether every later call fails too */
static long *count;
static int last_fd = -1; /* the file of the last call, if that was a write */
static int row;          /* writes to it in a row */

__attribute__((constructor)) static void start(void) {
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void faults_arm(const char *folder, long call, int error, int kinds, int stays) {
    snprintf(root, sizeof root, "%s", folder);
    at = call, error_number = error, affected = kinds, lasting = stays;
    *count = 0;
}

long faults_count(void) { return *count; }

static int below_root(const char *path) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int fd_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below_root(path);
}

static int path_below(int folder, const char *path) {
    char here[PATH_MAX];
    if (path[0] == '/') return below_root(path);
    if (folder != AT_FDCWD) return fd_below(folder);
    return getcwd(here, sizeof here) && below_root(here);
}

static enum verdict strike(enum kind kind, int inside) {
    if (!inside) return PASS;
    last_fd = -1;
    if (!(kind & affected)) return PASS;
    long call = __sync_add_and_fetch(count, 1);
    if (!at || call < at || (call > at && !lasting)) return PASS;
    if (error_number == -SIGKILL) return DIE;
    if (error_number < 0) {
        raise(-error_number);
        return PASS;
    }
    errno = error_number;
    return FAIL;
}

static enum verdict strike_write(int fd) {
    if (!fd_below(fd)) return PASS;
    row = fd == last_fd ? row + 1 : 1;
    enum verdict verdict = row <= 3 || (lasting && at && *count >= at) ? strike(GROW, 1) : PASS;
    last_fd = fd;
    return verdict;
}

/* Replaces a function: `arguments` in brackets, `passed` on to the real one unless the call is struck. */
#define REPLACE(type, name, arguments, passed, kind, inside)                         \
    type name arguments {                                                            \
        static type(*real) arguments;                                                \
        if (!real) real = (type(*) arguments)dlsym(RTLD_NEXT, #name);                \
        enum verdict verdict = root[0] ? strike(kind, inside) : PASS;                \
        if (verdict == DIE) raise(SIGKILL);                                          \
        return verdict == PASS ? real passed : (type)-1;                             \
    }

/* Writes die in the middle: half of the data gets there. */
#define REPLACE_WRITE(name, arguments, passed, half)                                 \
    ssize_t name arguments {                                                         \
        static ssize_t(*real) arguments;                                             \
        if (!real) real = (ssize_t(*) arguments)dlsym(RTLD_NEXT, #name);             \
        enum verdict verdict = root[0] ? strike_write(fd) : PASS;                    \
        if (verdict == DIE) {                                                        \
            ssize_t written = real half;                                             \
            (void)written;                                                           \
            raise(SIGKILL);                                                          \
        }                                                                            \
        return verdict == PASS ? real passed : -1;                                   \
    }

#define REPLACE_OPEN(name, arguments, folder, passed)                                \
    int name arguments {                                                             \
        static int(*real) arguments;                                                 \
        if (!real) real = (int(*) arguments)dlsym(RTLD_NEXT, #name);                 \
        mode_t mode = 0;                                                             \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                       \
            va_list rest;                                                            \
            va_start(rest, flags);                                                   \
            mode = va_arg(rest, mode_t);                                             \
            va_end(rest);                                                            \
        }                                                                            \
        int writes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY; \
        enum verdict verdict = root[0] && writes ? strike(GROW, path_below(folder, path)) : PASS; \
        if (verdict == DIE) raise(SIGKILL);                                          \
        return verdict == PASS ? real passed : -1;                                   \
    }

REPLACE_OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
REPLACE_OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
REPLACE_OPEN(openat, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))
REPLACE_OPEN(openat64, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))

#define REPLACE_FOPEN(name)                                                          \
    FILE *name(const char *path, const char *how) {                                  \
        static FILE *(*real)(const char *, const char *);                            \
        if (!real) real = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, #name); \
        int writes = strpbrk(how, "wa+") != NULL;                                    \
        enum verdict verdict = root[0] && writes ? strike(GROW, path_below(AT_FDCWD, path)) : PASS; \
        if (verdict == DIE) raise(SIGKILL);                                          \
        return verdict == PASS ? real(path, how) : NULL;                             \
    }
REPLACE_FOPEN(fopen)
REPLACE_FOPEN(fopen64)

REPLACE_WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
REPLACE_WRITE(pwrite, (int fd, const void *data, size_t size, off_t place), (fd, data, size, place), (fd, data, size / 2, place))
REPLACE_WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t place), (fd, data, size, place), (fd, data, size / 2, place))
REPLACE_WRITE(writev, (int fd, const struct iovec *parts, int n), (fd, parts, n), (fd, parts, n / 2))
REPLACE_WRITE(sendfile, (int fd, int from, off_t *place, size_t size), (fd, from, place, size), (fd, from, place, size / 2))

REPLACE(int, ftruncate, (int fd, off_t size), (fd, size), GROW, fd_below(fd))
REPLACE(int, ftruncate64, (int fd, off64_t size), (fd, size), GROW, fd_below(fd))
REPLACE(int, mkdir, (const char *path, mode_t mode), (path, mode), GROW, path_below(AT_FDCWD, path))
REPLACE(int, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), GROW, path_below(folder, path))
REPLACE(int, fsync, (int fd), (fd), SYNC, fd_below(fd))
REPLACE(int, fdatasync, (int fd), (fd), SYNC, fd_below(fd))
REPLACE(int, msync, (void *start, size_t size, int flags), (start, size, flags), SYNC, 1)
REPLACE(int, rename, (const char *from, const char *path), (from, path), NAME, path_below(AT_FDCWD, path))
REPLACE(int, renameat, (int from_folder, const char *from, int folder, const char *path), (from_folder, from, folder, path), NAME, path_below(folder, path))
REPLACE(int, unlink, (const char *path), (path), NAME, path_below(AT_FDCWD, path))
REPLACE(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), NAME, path_below(folder, path))
REPLACE(int, rmdir, (const char *path), (path), NAME, path_below(AT_FDCWD, path))
