// mediasoup is written for a libsrtp to come. In released ones, as Debian's, lengths are int.
#pragma once
#include <srtp2/srtp.h>
#include <cstddef>

#define PEER_SIZED(name)                                                              \
	inline srtp_err_status_t sized_##name(srtp_t session, void* packet, size_t* len) \
	{                                                                                 \
		int length                       = static_cast<int>(*len);                    \
		const srtp_err_status_t status = name(session, packet, &length);              \
		*len                           = static_cast<size_t>(length);                 \
		return status;                                                                \
	}

PEER_SIZED(srtp_protect)
PEER_SIZED(srtp_unprotect)
PEER_SIZED(srtp_protect_rtcp)
PEER_SIZED(srtp_unprotect_rtcp)

#define srtp_protect sized_srtp_protect
#define srtp_unprotect sized_srtp_unprotect
#define srtp_protect_rtcp sized_srtp_protect_rtcp
#define srtp_unprotect_rtcp sized_srtp_unprotect_rtcp
#define srtp_stream_remove srtp_remove_stream
