# The image of the workers of deploy/cluster.yaml: Dask, all trainers and their pretrained networks, put together from the
# images that `make images` builds. It needs no build context and no network:
#   DOCKER_BUILDKIT=1 docker build -t workers - <deploy/workers.Dockerfile
# With fewer trainers, leave out their lines.

FROM scratch AS trainers
COPY --from=gesture-trainer /opt /opt
COPY --from=gesture-trainer /app /app
COPY --from=sound-trainer /opt /opt
COPY --from=sound-trainer /app /app
COPY --from=speech-trainer /opt /opt
COPY --from=speech-trainer /app /app
COPY --from=visual-trainer /opt /opt
COPY --from=visual-trainer /app /app

FROM model-trainer
COPY --from=trainers /opt /opt
COPY --from=trainers /app /app
ENV MODEL_TRAINER_PRETRAINED=/opt/pretrained MPLCONFIGDIR=/tmp/matplotlib
