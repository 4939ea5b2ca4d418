/* Counts the calls by which this process changes files under one folder, or reads files there and under a second folder of
 * inputs, and makes the n-th of them fail.
 *
 * Preloaded (LD_PRELOAD), it stands between every library of the process and the C library, so that Python, Arrow and
 * Rust are met alike. Nothing is counted before faults_arm. The count lies in memory shared with forked children, so
 * that a parent can read it after a child's death. Of many writes to one file in a row only the first three count: Parquet
 * takes hundreds, and a fault at any of the others leaves the same folder but for bytes of a file that has no name yet. So with
 * many reads. What is mapped into memory is read without a call: only the mapping itself can fail here.
 */
#define _GNU_SOURCE
#include <dirent.h>
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

/* Takes space; flushes; renames or removes; opens to read; reads or lists; asks for size or kind. */
enum kind { GROW = 1, SYNC = 2, NAME = 4, OPEN = 8, READ = 16, STAT = 32 };
enum verdict { PASS, FAIL, DIE };

static char root[PATH_MAX], inputs[PATH_MAX];
static long at;           /* the call to fail, from 1; 0 for none */
static int error_number;  /* errno to fail with, or minus a signal to send instead */
static int affected;      /* kinds that are counted */
static int lasting;       /* whether every later call fails too */
static long *count;
static int last_fd = -1; /* the file of the last call, if that was a write or a read */
static int row;          /* of them in a row */

__attribute__((constructor)) static void start(void) {
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void faults_arm(const char *folder, const char *sources, long call, int error, int kinds, int stays) {
    snprintf(inputs, sizeof inputs, "%s", sources);
    snprintf(root, sizeof root, "%s", folder);
    at = call, error_number = error, affected = kinds, lasting = stays;
    *count = 0;
}

long faults_count(void) { return *count; }

static int below(const char *folder, const char *path) {
    size_t length = strlen(folder);
    return length && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int concerns(enum kind kind, const char *path) { return below(root, path) || (kind >= OPEN && below(inputs, path)); }

static int fd_concerns(enum kind kind, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = fd < 0 ? -1 : readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(kind, path);
}

static int path_concerns(enum kind kind, int folder, const char *path) {
    char here[PATH_MAX];
    if (path[0] == '/') return concerns(kind, path);
    if (folder != AT_FDCWD) return fd_concerns(kind, folder);
    return getcwd(here, sizeof here) && concerns(kind, here);
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

static enum verdict strike_row(enum kind kind, int fd) {
    if (!fd_concerns(kind, fd)) return PASS;
    row = fd == last_fd ? row + 1 : 1;
    enum verdict verdict = row <= 3 || (lasting && at && *count >= at) ? strike(kind, 1) : PASS;
    last_fd = fd;
    return verdict;
}

/* Replaces a function: `arguments` in brackets, `passed` on to the real one unless the call is struck. */
#define REPLACE(type, name, arguments, passed, verdict_of)                           \
    type name arguments {                                                            \
        static type(*real) arguments;                                                \
        if (!real) real = (type(*) arguments)dlsym(RTLD_NEXT, #name);                \
        enum verdict verdict = root[0] ? verdict_of : PASS;                          \
        if (verdict == DIE) raise(SIGKILL);                                          \
        return verdict == PASS ? real passed : (type)FAILURE;                        \
    }
#define FAILURE -1

/* Writes die in the middle: half of the data gets there. */
#define REPLACE_WRITE(name, arguments, passed, half)                                 \
    ssize_t name arguments {                                                         \
        static ssize_t(*real) arguments;                                             \
        if (!real) real = (ssize_t(*) arguments)dlsym(RTLD_NEXT, #name);             \
        enum verdict verdict = root[0] ? strike_row(GROW, fd) : PASS;                    \
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
        enum kind kind = writes ? GROW : OPEN;                                       \
        enum verdict verdict = root[0] ? strike(kind, path_concerns(kind, folder, path)) : PASS; \
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
        enum kind kind = strpbrk(how, "wa+") ? GROW : OPEN;                          \
        enum verdict verdict = root[0] ? strike(kind, path_concerns(kind, AT_FDCWD, path)) : PASS; \
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

#define ON_FD(kind) strike(kind, fd_concerns(kind, fd))
#define ON_PATH(kind, folder) strike(kind, path_concerns(kind, folder, path))

REPLACE(int, ftruncate, (int fd, off_t size), (fd, size), ON_FD(GROW))
REPLACE(int, ftruncate64, (int fd, off64_t size), (fd, size), ON_FD(GROW))
REPLACE(int, mkdir, (const char *path, mode_t mode), (path, mode), ON_PATH(GROW, AT_FDCWD))
REPLACE(int, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), ON_PATH(GROW, folder))
REPLACE(int, fsync, (int fd), (fd), ON_FD(SYNC))
REPLACE(int, fdatasync, (int fd), (fd), ON_FD(SYNC))
REPLACE(int, msync, (void *start, size_t size, int flags), (start, size, flags), strike(SYNC, 1))
REPLACE(int, rename, (const char *from, const char *path), (from, path), ON_PATH(NAME, AT_FDCWD))
REPLACE(int, renameat, (int from_folder, const char *from, int folder, const char *path), (from_folder, from, folder, path), ON_PATH(NAME, folder))
REPLACE(int, unlink, (const char *path), (path), ON_PATH(NAME, AT_FDCWD))
REPLACE(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), ON_PATH(NAME, folder))
REPLACE(int, rmdir, (const char *path), (path), ON_PATH(NAME, AT_FDCWD))

REPLACE(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), strike_row(READ, fd))
REPLACE(ssize_t, pread, (int fd, void *data, size_t size, off_t place), (fd, data, size, place), strike_row(READ, fd))
REPLACE(ssize_t, pread64, (int fd, void *data, size_t size, off64_t place), (fd, data, size, place), strike_row(READ, fd))
REPLACE(ssize_t, readv, (int fd, const struct iovec *parts, int n), (fd, parts, n), strike_row(READ, fd))
REPLACE(void *, mmap, (void *start, size_t size, int use, int flags, int fd, off_t place), (start, size, use, flags, fd, place), ON_FD(READ))
REPLACE(void *, mmap64, (void *start, size_t size, int use, int flags, int fd, off64_t place), (start, size, use, flags, fd, place), ON_FD(READ))
REPLACE(int, fstat, (int fd, struct stat *found), (fd, found), ON_FD(STAT))
REPLACE(int, fstat64, (int fd, struct stat64 *found), (fd, found), ON_FD(STAT))
REPLACE(int, stat, (const char *path, struct stat *found), (path, found), ON_PATH(STAT, AT_FDCWD))
REPLACE(int, stat64, (const char *path, struct stat64 *found), (path, found), ON_PATH(STAT, AT_FDCWD))
REPLACE(int, lstat, (const char *path, struct stat *found), (path, found), ON_PATH(STAT, AT_FDCWD))
REPLACE(int, lstat64, (const char *path, struct stat64 *found), (path, found), ON_PATH(STAT, AT_FDCWD))
REPLACE(int, fstatat, (int folder, const char *path, struct stat *found, int flags), (folder, path, found, flags), ON_PATH(STAT, folder))
REPLACE(int, fstatat64, (int folder, const char *path, struct stat64 *found, int flags), (folder, path, found, flags), ON_PATH(STAT, folder))
REPLACE(int, statx, (int folder, const char *path, int flags, unsigned mask, struct statx *found), (folder, path, flags, mask, found), ON_PATH(STAT, folder))

#undef FAILURE
#define FAILURE NULL
REPLACE(DIR *, opendir, (const char *path), (path), ON_PATH(OPEN, AT_FDCWD))
REPLACE(DIR *, fdopendir, (int fd), (fd), ON_FD(OPEN))
REPLACE(struct dirent *, readdir, (DIR *folder), (folder), strike_row(READ, dirfd(folder)))
REPLACE(struct dirent64 *, readdir64, (DIR *folder), (folder), strike_row(READ, dirfd(folder)))
