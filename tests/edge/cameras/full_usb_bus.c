/* Preloaded: a regular file acts as a V4L2 camera (MJPG 640x480 at 30 Hz) whose stream the kernel refuses with ENOSPC,
   as it does when the USB bus has no bandwidth left (uvcvideo). Everything else goes to the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static int camera(unsigned long request, void *argument) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *filled = argument;
        strcpy((char *)filled->driver, "uvcvideo");
        strcpy((char *)filled->card, "Webcam");
        filled->capabilities = filled->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *filled = argument;
        filled->pixelformat = V4L2_PIX_FMT_MJPEG;
        if (filled->index == 0) return 0;
        break;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *filled = argument;
        filled->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        filled->discrete.width = 640;
        filled->discrete.height = 480;
        if (filled->index == 0) return 0;
        break;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *filled = argument;
        filled->type = V4L2_FRMIVAL_TYPE_DISCRETE;
        filled->discrete.numerator = 1;
        filled->discrete.denominator = 30;
        if (filled->index == 0) return 0;
        break;
    }
    case VIDIOC_G_PARM: {
        struct v4l2_streamparm *filled = argument;
        filled->parm.capture.timeperframe.numerator = 1;
        filled->parm.capture.timeperframe.denominator = 30;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *filled = argument;
        filled->length = 4096;
        filled->m.offset = 0;
        return 0;
    }
    case VIDIOC_S_FMT: case VIDIOC_S_PARM: case VIDIOC_REQBUFS: case VIDIOC_QBUF: case VIDIOC_STREAMOFF:
        return 0;
    case VIDIOC_STREAMON:
        errno = ENOSPC;
        return -1;
    }
    errno = EINVAL;
    return -1;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    struct stat about;
    if (_IOC_TYPE(request) == 'V' && fstat(fd, &about) == 0 && S_ISREG(about.st_mode)) return camera(request, argument);
    int (*real)(int, unsigned long, void *) = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}
