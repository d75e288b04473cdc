/* SPDX-License-Identifier: Apache-2.0
 * The five functions of libb64 that perf_analyzer links to, for machines that do not have that library.
 * perf_analyzer uses them for handles of CUDA shared memory and for JSON input data in base64. */
#include <stddef.h>

typedef struct { int step; unsigned char carry; int stepcount; } encode_state;
typedef struct { int step; char carry; } decode_state;

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_init_encodestate(encode_state *state) { state->step = 0; state->carry = 0; state->stepcount = 0; }

int base64_encode_block(const char *text, int length, char *out, encode_state *state) {
    char *at = out;
    for (int i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        switch (state->step) {
        case 0: *at++ = ALPHABET[byte >> 2]; state->carry = (byte & 3) << 4; break;
        case 1: *at++ = ALPHABET[state->carry | byte >> 4]; state->carry = (byte & 15) << 2; break;
        default: *at++ = ALPHABET[state->carry | byte >> 6]; *at++ = ALPHABET[byte & 63]; state->carry = 0;
        }
        state->step = (state->step + 1) % 3;
    }
    return (int)(at - out);
}

int base64_encode_blockend(char *out, encode_state *state) {
    char *at = out;
    if (state->step != 0) {
        *at++ = ALPHABET[state->carry];
        for (int pad = state->step; pad < 3; pad++) *at++ = '=';
    }
    *at++ = '\n';
    return (int)(at - out);
}

static int value_of(char letter) {
    for (int i = 0; i < 64; i++) if (ALPHABET[i] == letter) return i;
    return -1;
}

void base64_init_decodestate(decode_state *state) { state->step = 0; state->carry = 0; }

int base64_decode_block(const char *text, int length, char *out, decode_state *state) {
    char *at = out;
    for (int i = 0; i < length; i++) {
        int value = value_of(text[i]);
        if (value < 0) continue; /* line ends and padding */
        switch (state->step) {
        case 0: state->carry = (char)(value << 2); break;
        case 1: *at++ = (char)(state->carry | value >> 4); state->carry = (char)(value << 4); break;
        case 2: *at++ = (char)(state->carry | value >> 2); state->carry = (char)(value << 6); break;
        default: *at++ = (char)(state->carry | value); state->carry = 0;
        }
        state->step = (state->step + 1) % 4;
    }
    return (int)(at - out);
}
