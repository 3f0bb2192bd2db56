/*
 * Has writes and syncs of a program's database fail, on demand, and notes what a sync has made durable. Loaded with
 * LD_PRELOAD by tests/tests/crash/io.rs.
 *
 * IOFAULT_FOLDER names a folder. While it has a file `sync`, every fsync and fdatasync of the database fails with EIO;
 * while it has a file `write`, every write does, and while it has one `full`, every write fails with ENOSPC. The file
 * `durable` always has the length of the write-ahead log that was synced last, in decimal: what a power cut leaves.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* The path of an open file; empty where it has none. */
static void path_of(int fd, char *path, size_t room) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, room - 1);
  path[length < 0 ? 0 : length] = 0;
}

static int armed(const char *what) {
  const char *folder = getenv("IOFAULT_FOLDER");
  char path[4096];
  if (!folder) return 0;
  snprintf(path, sizeof path, "%s/%s", folder, what);
  return access(path, F_OK) == 0;
}

static int is_database(const char *path) { return ends_with(path, ".db") || ends_with(path, ".db-wal"); }

static int write_fails(int fd) {
  int full = armed("full");
  if (!full && !armed("write")) return 0;
  char path[4096];
  path_of(fd, path, sizeof path);
  if (!is_database(path)) return 0;
  errno = full ? ENOSPC : EIO;
  return 1;
}

static void note_durable(const char *path, off_t length) {
  const char *folder = getenv("IOFAULT_FOLDER");
  char note[4096], text[32];
  if (!folder || !ends_with(path, ".db-wal")) return;
  snprintf(note, sizeof note, "%s/durable", folder);
  int size = snprintf(text, sizeof text, "%020lld", (long long)length);
  int out = open(note, O_WRONLY | O_CREAT, 0600);
  if (out < 0) return;
  if (syscall(SYS_pwrite64, out, text, (size_t)size, (off_t)0) != size) abort();
  close(out);
}

static int sync_file(int fd, long number) {
  char path[4096];
  struct stat before;
  path_of(fd, path, sizeof path);
  if (!is_database(path)) return (int)syscall(number, fd);
  if (armed("sync")) {
    errno = EIO;
    return -1;
  }
  int known = fstat(fd, &before) == 0;
  int result = (int)syscall(number, fd);
  if (result == 0 && known) note_durable(path, before.st_size);
  return result;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }

int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

ssize_t write(int fd, const void *bytes, size_t length) {
  return write_fails(fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  return write_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
  return write_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}
