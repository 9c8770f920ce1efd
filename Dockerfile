# voxfit for the processor, in an image of the program and the three libraries that it loads: no shell, no packages, no
# Python. How to use it, and how to build it without internet access: docs/building.md.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" -t voxfit .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The commit, for manifests: .git is not part of what is copied.
ARG REVISION=unknown
RUN VOXFIT_GIT_REVISION="$REVISION" cargo build --release --locked
# What the program loads lies where the loader looks for it, on any processor; -L copies files, not links to them.
RUN mkdir -p /image/usr/bin /empty \
 && cp target/release/voxfit /image/usr/bin/ \
 && ldd target/release/voxfit | grep -o '/[^ ]*' | xargs cp -L --parents -t /image \
 && /image/usr/bin/voxfit --version

FROM scratch
COPY --from=build /image /
# A user without rights of its own; `docker run --user` gives files the owner that you want.
COPY --from=build --chown=10001:10001 /empty /tmp
COPY --from=build --chown=10001:10001 /empty /cache
COPY --from=build --chown=10001:10001 /empty /data
USER 10001:10001
# Prepared volumes, which are patients' images: on a volume, so that they outlive the container and can be removed.
ENV VOXFIT_CACHE=/cache
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["/usr/bin/voxfit"]
CMD ["--help"]
