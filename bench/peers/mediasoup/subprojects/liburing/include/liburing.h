// Two functions that came after Debian's liburing 2.3.
#pragma once
#include_next <liburing.h>

static inline int io_uring_major_version(void)
{
	return 2;
}

static inline int io_uring_minor_version(void)
{
	return 3;
}

static inline void io_uring_prep_sendto(
  struct io_uring_sqe* sqe,
  int sockfd,
  const void* buf,
  size_t len,
  int flags,
  const struct sockaddr* addr,
  socklen_t addrlen)
{
	io_uring_prep_send(sqe, sockfd, buf, len, flags);
	io_uring_prep_send_set_addr(sqe, addr, addrlen);
}
