/* What linux/videodev2.h says, for comparison with edge/cameras/v4l2/structures.py: one "name value" per line. */
#include <linux/videodev2.h>
#include <stddef.h>
#include <stdio.h>

#define REQUEST(name) printf(#name " %lu\n", (unsigned long)VIDIOC_##name)
#define VALUE(name) printf(#name " %lu\n", (unsigned long)V4L2_##name)
#define SIZE(name, type) printf(#name " %zu\n", sizeof(struct type))
#define FIELD(name, type, field) printf(#name " %zu\n", offsetof(struct type, field))

int main(void) {
    REQUEST(QUERYCAP); REQUEST(ENUM_FMT); REQUEST(S_FMT); REQUEST(REQBUFS); REQUEST(QUERYBUF); REQUEST(QBUF);
    REQUEST(DQBUF); REQUEST(STREAMON); REQUEST(STREAMOFF); REQUEST(G_PARM); REQUEST(S_PARM); REQUEST(G_CTRL);
    REQUEST(S_CTRL); REQUEST(QUERYCTRL); REQUEST(ENUM_FRAMESIZES); REQUEST(ENUM_FRAMEINTERVALS);
    VALUE(BUF_TYPE_VIDEO_CAPTURE); VALUE(MEMORY_MMAP); VALUE(FIELD_NONE); VALUE(CAP_VIDEO_CAPTURE);
    VALUE(CAP_VIDEO_CAPTURE_MPLANE); VALUE(CAP_STREAMING); VALUE(CAP_DEVICE_CAPS); VALUE(BUF_FLAG_ERROR);
    VALUE(BUF_FLAG_TIMESTAMP_MASK); VALUE(BUF_FLAG_TIMESTAMP_MONOTONIC); VALUE(BUF_FLAG_TIMESTAMP_COPY);
    VALUE(BUF_FLAG_TSTAMP_SRC_MASK); VALUE(BUF_FLAG_TSTAMP_SRC_SOE); VALUE(CTRL_FLAG_DISABLED);
    VALUE(CTRL_FLAG_NEXT_CTRL);
    printf("FRAME_DISCRETE %d\n", V4L2_FRMSIZE_TYPE_DISCRETE);
    SIZE(Capability, v4l2_capability); SIZE(FormatDescription, v4l2_fmtdesc); SIZE(FrameSize, v4l2_frmsizeenum);
    SIZE(FrameInterval, v4l2_frmivalenum); SIZE(Format, v4l2_format); SIZE(StreamParameters, v4l2_streamparm);
    SIZE(RequestBuffers, v4l2_requestbuffers); SIZE(Buffer, v4l2_buffer); SIZE(ControlDescription, v4l2_queryctrl);
    SIZE(Control, v4l2_control);
    FIELD(Capability.capabilities, v4l2_capability, capabilities);
    FIELD(Capability.device_caps, v4l2_capability, device_caps);
    FIELD(FormatDescription.pixelformat, v4l2_fmtdesc, pixelformat);
    FIELD(FrameSize.numbers, v4l2_frmsizeenum, discrete);
    FIELD(FrameInterval.numbers, v4l2_frmivalenum, discrete);
    FIELD(Format.width, v4l2_format, fmt.pix.width);
    FIELD(Format.pixelformat, v4l2_format, fmt.pix.pixelformat);
    FIELD(Format.bytesperline, v4l2_format, fmt.pix.bytesperline);
    FIELD(StreamParameters.numerator, v4l2_streamparm, parm.capture.timeperframe.numerator);
    FIELD(StreamParameters.denominator, v4l2_streamparm, parm.capture.timeperframe.denominator);
    FIELD(Buffer.bytesused, v4l2_buffer, bytesused);
    FIELD(Buffer.flags, v4l2_buffer, flags);
    FIELD(Buffer.seconds, v4l2_buffer, timestamp.tv_sec);
    FIELD(Buffer.microseconds, v4l2_buffer, timestamp.tv_usec);
    FIELD(Buffer.sequence, v4l2_buffer, sequence);
    FIELD(Buffer.memory, v4l2_buffer, memory);
    FIELD(Buffer.offset, v4l2_buffer, m.offset);
    FIELD(Buffer.length, v4l2_buffer, length);
    FIELD(ControlDescription.minimum, v4l2_queryctrl, minimum);
    FIELD(ControlDescription.flags, v4l2_queryctrl, flags);
    return 0;
}
